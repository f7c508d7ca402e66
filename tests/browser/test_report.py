"""The report in a browser: offline, by keyboard, at desktop and phone width, in light and dark."""

import json
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.support.wait import WebDriverWait

import cmt
from cmt.common.progress import NullProgress
from cmt.report.page import write_report
from tests.helpers.chromium import coloured, press


@pytest.fixture(scope="session")
def report(adapted_project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report of the tiny project."""
    page = tmp_path_factory.mktemp("reported") / "index.html"
    write_report(
        cmt.open(params=adapted_project / "params.yaml").project, page, progress=NullProgress()
    )
    return page.as_uri()


def test_the_page_makes_no_request_and_only_tables_scroll(browser: Chrome, report: str) -> None:
    browser.get(report)
    browser.execute_script(
        "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
    )
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [
        event["params"]["request"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    urls = {request["url"] for request in requests}
    assert {url for url in urls if not url.startswith("data:")} == {report}
    assert browser.get_log("browser") == []
    wide, window = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert wide <= window
    tables = (
        "return [...document.querySelectorAll('table')].every((table) => table.closest('.scroll'))"
    )
    assert browser.execute_script(tables)


def test_a_question_can_be_opened_by_keyboard(browser: Chrome, report: str) -> None:
    browser.get(report)
    press(browser, Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the report"
    for _ in range(80):
        press(browser, Keys.TAB)
        if browser.execute_script(
            "return document.activeElement.parentElement.matches('.question')"
        ):
            break
    press(browser, Keys.ENTER)
    assert browser.execute_script("return document.activeElement.parentElement.open")
    assert browser.find_element("css selector", ".question[open] .source").is_displayed()


def test_charts_follow_the_colour_scheme(browser: Chrome, report: str) -> None:
    def colours() -> list[str]:
        drawing = "return document.querySelector('figure img').currentSrc"
        background = "return getComputedStyle(document.body).backgroundColor"
        return [browser.execute_script(script) for script in (drawing, background)]

    browser.get(report)
    light = colours()
    coloured(browser, "dark")
    # the browser chooses the picture of the other scheme later
    WebDriverWait(browser, 10).until(lambda _: colours()[0] != light[0])
    assert light[1] != colours()[1]
