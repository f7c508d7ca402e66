"""The web page by keyboard, on a phone, in both colour schemes, and with hostile documents."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.helpers.chromium import coloured, press
from tests.helpers.http import MAYOR


def by_id(browser: Chrome, name: str) -> WebElement:
    return browser.find_element("id", name)


def until(browser: Chrome, condition: Callable[[], Any]) -> Any:
    """Wait up to ten seconds until `condition()` is true; returns its value."""
    return WebDriverWait(browser, 10, poll_frequency=0.05).until(lambda _: condition())


def focused(browser: Chrome) -> str:
    return str(browser.switch_to.active_element.get_attribute("id"))


def open_page(browser: Chrome, url: str) -> None:
    browser.get(url)
    until(browser, lambda: "documents" in by_id(browser, "state").text)


def source_ids(browser: Chrome) -> set[str]:
    return {
        line.split(" · ")[1].split(" supersedes ")[0] for line in texts(browser, "#sources .quiet")
    }


def texts(browser: Chrome, selector: str) -> list[str]:
    """The texts of all matching elements, read in one call because the page may replace them
    between two.
    """
    inner_texts: list[str] = browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((element) => element.innerText)",
        selector,
    )
    return inner_texts


def ask(browser: Chrome, question: str) -> None:
    """Ask by keyboard, starting at the focused element."""
    while focused(browser) != "question":
        press(browser, Keys.TAB)
    press(browser, question, Keys.ENTER)
    wait_for_answer(browser)


def wait_for_answer(browser: Chrome) -> None:
    answer = by_id(browser, "answer")
    until(browser, lambda: answer.is_displayed() and answer.get_attribute("aria-busy") == "false")


def test_question_and_date_can_be_set_by_keyboard(browser: Chrome, url: str) -> None:
    open_page(browser, url)
    ask(browser, MAYOR)
    assert by_id(browser, "text").text
    assert source_ids(browser) & {"mayor-1", "mayor-2"} == {"mayor-2"}
    press(browser, Keys.TAB)  # the button
    while focused(browser) != "day":
        press(browser, Keys.TAB)
    press(browser, Keys.HOME)
    until(browser, lambda: source_ids(browser) == {"mayor-1"})
    assert by_id(browser, "date").get_attribute("value") == "2031-01-06"
    assert by_id(browser, "day").get_attribute("aria-valuetext") == "2031-01-06"
    press(browser, Keys.ARROW_RIGHT * 3)
    until(browser, lambda: "as-of=2031-01-09" in browser.current_url)
    wait_for_answer(browser)
    assert "mayor-1" in (sources := source_ids(browser)) <= {"mayor-1", "ferry"}
    rows = browser.find_elements("css selector", "#history button")
    assert rows[0].text.startswith("2031-01-06")
    assert [row.get_attribute("aria-current") for row in rows].count("date") == 1
    browser.refresh()
    wait_for_answer(browser)
    assert (by_id(browser, "question").get_attribute("value"), source_ids(browser)) == (
        MAYOR,
        sources,
    )


def test_the_answers_on_several_days_are_listed_and_a_click_returns_to_one(
    browser: Chrome, url: str
) -> None:
    open_page(browser, f"{url}/#q=What+does+the+ferry+to+Saltby+cost%3F&as-of=2031-02-20")
    until(browser, lambda: "ferry" in source_ids(browser))
    assert not by_id(browser, "along").is_displayed()
    by_id(browser, "day").send_keys(Keys.HOME)
    until(browser, lambda: len(texts(browser, "#history button")) == 2)
    rows = texts(browser, "#history button")
    assert rows[0] == "2031-01-06 not in memory"
    assert re.match("2031-02-20 .", rows[1])
    browser.find_elements("css selector", "#history button")[1].send_keys(Keys.ENTER)
    until(browser, lambda: "ferry" in source_ids(browser))
    assert by_id(browser, "date").get_attribute("value") == "2031-02-20"


def test_a_slider_at_its_end_follows_new_documents(browser: Chrome, url: str) -> None:
    open_page(browser, url)
    browser.execute_script("""
        const [send, range] = [window.fetch, { first: "2031-01-06", last: "2031-03-09",
            documents: 9 }];
        const grown = () => Promise.resolve(new Response(JSON.stringify(range)));
        window.fetch = (path, options) => (path === "range" ? grown() : send(path, options));
        """)
    ask(browser, MAYOR)
    date = by_id(browser, "date")
    assert [date.get_attribute(name) for name in ("value", "max")] == ["2031-03-09", "2031-03-09"]
    assert "as-of=2031-03-09" in browser.current_url
    by_id(browser, "day").send_keys(Keys.HOME)
    until(browser, lambda: "as-of=2031-01-06" in browser.current_url)
    wait_for_answer(browser)
    assert date.get_attribute("value") == "2031-01-06"


def test_an_abstention_shows_the_nearest_documents(browser: Chrome, url: str) -> None:
    open_page(browser, url)
    ask(browser, "Which comet outshone Jupiter?")
    assert by_id(browser, "text").text == "not in memory"
    assert by_id(browser, "rests-on").text == "Nearest documents"


def test_the_bank_can_be_browsed_by_keyboard(browser: Chrome, url: str) -> None:
    open_page(browser, url)
    until(browser, lambda: by_id(browser, "count").text == "1 to 7 of 7 documents")
    first = browser.find_element("css selector", "#documents summary")
    assert "Vell succeeds Moss" in first.text
    first.send_keys(Keys.ENTER)
    until(
        browser,
        lambda: (
            "Vell is the mayor of Port Ellery now." in "".join(texts(browser, "#documents .text"))
        ),
    )
    assert "supersedes mayor-1" in "".join(texts(browser, "#documents .quiet"))
    browser.execute_script("document.getElementById('until').value = '2031-01-09'")
    by_id(browser, "until").submit()
    until(browser, lambda: by_id(browser, "count").text == "1 to 2 of 2 documents")


def test_markup_in_documents_is_shown_as_text(browser: Chrome, url: str) -> None:
    open_page(browser, url)
    ask(browser, "What has the duck said?")
    until(browser, lambda: "<script>alert(1)</script> 🦆" in texts(browser, "#sources h3"))
    assert "<img src=x onerror=alert(1)>" in source_ids(browser)
    assert not browser.find_elements("css selector", "main img, main script, main b")
    for entry in browser.get_log("browser"):
        assert entry["level"] not in ("SEVERE", "WARNING"), entry


def test_nothing_is_fetched_from_another_host(browser: Chrome, url: str) -> None:
    for page in (url, f"{url}/docs"):
        browser.get(page)
        until(
            browser,
            lambda: len(browser.find_elements("css selector", "main section, main details")) > 1,
        )
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"
    ]
    foreign = [
        address for address in urls if not address.startswith((f"{url}/", "data:"))
    ]  # a new tab is a data: URL
    assert foreign == []
    assert f"{url}/openapi.json" in urls


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_the_window_and_has_enough_contrast(
    browser: Chrome, url: str, scheme: str
) -> None:
    coloured(browser, scheme)
    open_page(browser, f"{url}/#q=Who+is+the+mayor+of+Port+Ellery%3F")
    wait_for_answer(browser)
    width, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert width <= inner
    paper, lit, ink, quiet, fault = (
        browser.execute_script(
            "const probe = document.body.appendChild(document.createElement('i'));"
            "probe.style.color = `var(--${arguments[0]})`; return getComputedStyle(probe).color",
            name,
        )
        for name in ("paper", "lit", "ink", "quiet", "fault")
    )
    assert (luminance(paper) > 0.5) is (scheme == "light")
    for colour in (ink, quiet, fault):
        assert contrast(colour, paper) >= 4.5
    assert contrast(ink, lit) >= 4.5


def test_every_control_has_an_accessible_name(browser: Chrome, url: str) -> None:
    open_page(browser, url)
    ask(browser, MAYOR)
    for element in browser.find_elements("css selector", "input, button, meter, summary"):
        if element.is_displayed():
            assert element.accessible_name, element.get_attribute("outerHTML")


def test_positions_of_spans_count_code_points(browser: Chrome, url: str) -> None:
    open_page(browser, url)
    lit = browser.execute_async_script("""
        const done = arguments[0];
        import("/web/dom.js").then(({ highlighted }) => {
          const spans = [{first: 4, last: 6, probability: 0.2}, {first: 1, last: 3,
              probability: 0.8},
                         {first: 5, last: 99, probability: 0.1}];
          const box = document.createElement("p");
          const source = {text: "a🦆b<i>c", spans, quote: {first: 2, last: 3}};
          box.append(...highlighted(source, 0.8));
          const light = (mark) => [mark.textContent, mark.style.getPropertyValue("--light")];
          const part = document.createElement("p");
          part.append(...highlighted(source, 0.8, 2, 5));
          const quotes =
            [...box.querySelectorAll("mark .quote")].map((element) => element.textContent);
          done([box.textContent, [...box.querySelectorAll("mark")].map(light), part.textContent,
              quotes]);
        });
        """)
    assert lit == ["a🦆b<i>c", [["🦆b", "1"], ["i>", "0.25"], ["c", "0.125"]], "b<i", ["b"]]


def test_an_unreachable_server_is_reported(browser: Chrome, url: str) -> None:
    open_page(browser, url)
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    by_id(browser, "question").send_keys(MAYOR, Keys.ENTER)
    until(browser, lambda: "is `cmt serve` still running?" in by_id(browser, "fault").text)


def test_a_page_opened_before_there_is_a_bank_answers_once_there_is_one(
    browser: Chrome, url: str
) -> None:
    refusing = """
        const [send, body] = [window.fetch, JSON.stringify({ error: { message: "no bank" } })];
        const refuse = () => Promise.resolve(new Response(body, { status: 503 }));
        window.fetch = (...call) => (window.ready ? send(...call) : refuse());
        """
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": refusing})
    try:
        browser.get(url)
        until(browser, lambda: by_id(browser, "fault").text == "no bank")
        browser.execute_script("window.ready = true")
        ask(browser, MAYOR)
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert not by_id(browser, "fault").is_displayed()
    assert by_id(browser, "date").is_enabled() and source_ids(browser)


def test_the_api_page_shows_every_operation(browser: Chrome, url: str) -> None:
    browser.get(f"{url}/docs")
    operations = until(browser, lambda: texts(browser, "summary code"))
    assert "POST/ask" in [text.replace(" ", "").replace("\n", "") for text in operations]
    browser.find_element("css selector", "summary").send_keys(Keys.ENTER)
    example = until(browser, lambda: browser.find_element("css selector", "pre").text)
    assert "Source" in texts(browser, "details[open] h3")
    assert example.startswith(
        f"curl -X POST '{url}/ask' -H 'Content-Type: application/json' -d '{{\"question\""
    )


def test_a_server_with_tokens_is_asked_with_one_of_this_tab(
    browser: Chrome, guarded: tuple[str, str]
) -> None:
    url, token = guarded
    browser.get(url)
    until(browser, lambda: focused(browser) == "token")
    press(browser, Keys.ESCAPE, Keys.ESCAPE)  # there is nothing to see without a token
    until(browser, lambda: by_id(browser, "token").is_displayed())
    by_id(browser, "token").send_keys("wrong", Keys.ENTER)
    until(browser, lambda: "This token is not valid" in "".join(texts(browser, "dialog label")))
    assert by_id(browser, "token").accessible_name
    by_id(browser, "token").send_keys(token, Keys.ENTER)
    until(browser, lambda: "documents" in by_id(browser, "state").text)
    assert not browser.find_elements("css selector", "dialog")
    ask(browser, MAYOR)
    assert "mayor-2" in source_ids(browser)
    browser.get(f"{url}/docs")  # without being asked again
    until(browser, lambda: texts(browser, "summary code"))
    browser.find_element("css selector", "summary").send_keys(Keys.ENTER)
    example = until(browser, lambda: browser.find_element("css selector", "pre").text)
    assert '-H "Authorization: Bearer $CMT_TOKEN"' in example and token not in browser.page_source
    assert browser.execute_script("return [localStorage.length, document.cookie]") == [0, ""]
    refused = [entry for entry in browser.get_log("browser") if "401" not in entry["message"]]
    assert not [entry for entry in refused if entry["level"] in ("SEVERE", "WARNING")], refused


def luminance(colour: str) -> float:
    """Relative luminance of `colour` (CSS rgb), as defined in WCAG 2."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour: str, background: str) -> float:
    """Contrast ratio of two colours, as defined in WCAG 2."""
    darker, lighter = sorted([luminance(colour), luminance(background)])
    return (lighter + 0.05) / (darker + 0.05)
