"""`make pictures`: the pictures of docs/, in a headless Chromium: web page, MLflow, Prefect, and
the year.
"""

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.support.wait import WebDriverWait

from flows.local.prefect import LocalPrefect, free_port
from tests.helpers.chromium import missing, started
from tests.helpers.servers import serving

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
QUESTION, AS_OF = "What does a single ticket on the Saltby ferry cost?", "2031-02-15"
SECONDS = 120
"""Longest wait for a server or a page."""
WINDOW = {"width": 1500, "height": 960, "deviceScaleFactor": 1, "mobile": False}
HAS_LINK = (
    "return [...document.querySelectorAll('a')].some(link =>"
    " link.textContent.includes(arguments[0]))"
)
EVENTS = [
    ("events", name)
    for name in (
        "cmt.compressor.promoted",
        "prefect.automation.triggered",
        "prefect.automation.action.executed",
    )
]
OPEN_ROUNDS = """
document.querySelector('[aria-label=Close]')?.click();
const stream = [...document.querySelectorAll('a')].find(
    link => link.textContent.includes('data/stream'));
stream.closest('[role=gridcell]').querySelector('button').click();
"""
"""Closes MLflow's assistant and opens the rounds below the stream's run."""


def main() -> None:
    """Take every picture; ends with a message if Chromium or the demo's bank is missing."""
    if missing():
        sys.exit(missing())
    if not (ROOT / "data/bank").is_dir():
        sys.exit("no bank in data/bank: run `make demo` first")
    # 1. the web page
    with serving(ROOT) as url:
        take_answer(url, DOCS / "serve.png")
    # 2. MLflow and Prefect
    with mlflow_server(ROOT / "mlflow.db") as url:
        address = f"{url}/#/experiments/1/runs?workflowType=machine_learning"
        take_page(address, ["data/stream", "round-"], DOCS / "mlflow.png", script=OPEN_ROUNDS)
    with prefect_server(ROOT / ".prefect/demo") as url:
        take_page(f"{url}/runs", ["update"], DOCS / "prefect.png")
    # 3. the loop
    if not (ROOT / ".prefect/year").exists():
        sys.exit(
            "the pictures of docs/loop.md stay as they are: run `make year` before for new ones"
        )
    with prefect_server(ROOT / ".prefect/year") as url:
        take_page(f"{url}/runs", ["recompress"], DOCS / "loop-runs.png")
        take_page(
            f"{url}/events?{urlencode(EVENTS)}",
            ["Cmt compressor promoted"],
            DOCS / "loop-events.png",
        )


def take_answer(url: str, path: Path) -> None:
    """Ask as of a day, move the date to the last day, and write a screenshot of the window to
    `path`.
    """
    with started("desktop") as browser:
        browser.get(f"{url}/#{urlencode({'q': QUESTION, 'as-of': AS_OF})}")
        wait_for_answers(browser, 1)
        browser.find_element("id", "day").send_keys(Keys.END)
        wait_for_answers(browser, 2)
        browser.execute_script("document.activeElement.blur()")
        write_screenshot(browser, path)


def wait_for_answers(browser: Chrome, count: int) -> None:
    """Wait until the page lists the answers on `count` days."""
    rows = "return document.querySelectorAll('#history button').length"
    WebDriverWait(browser, SECONDS).until(lambda _: browser.execute_script(rows) == count)


def take_page(url: str, links: list[str], path: Path, *, script: str = "") -> None:
    """Write a screenshot of the page at `url` once it shows links with these texts; `script` runs
    after the first.
    """
    with started("desktop") as browser:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", WINDOW)
        browser.get(url)
        for link in links:
            wait = WebDriverWait(browser, SECONDS)
            wait.until(lambda page: page.execute_script(HAS_LINK, link))  # noqa: B023 - ends in this turn
            if link == links[0]:
                browser.execute_script(script)
        time.sleep(2)  # the page moves until then
        write_screenshot(browser, path)


def write_screenshot(browser: Chrome, path: Path) -> None:
    """Write the window as a PNG of 256 colours, a third of the size."""
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    window = Image.open(BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    window.quantize(256).save(path, "PNG", optimize=True)


@contextmanager
def mlflow_server(database: Path) -> Iterator[str]:
    """The address of `mlflow server` over the runs in `database`."""
    port = free_port()
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            f"sqlite:///{database}",
            *address,
        ],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until `url` answers; an AssertionError if the process ends instead."""
    for _ in range(10 * SECONDS):
        assert process.poll() is None, f"the server of {url} ended"
        try:
            with urlopen(url, timeout=1):  # noqa: S310 - http on 127.0.0.1
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """The address of a Prefect server over the flow runs in `home`."""
    prefect = LocalPrefect(root=ROOT, home=home)
    try:
        prefect.start_server()
        yield f"http://127.0.0.1:{prefect.port}"
    finally:
        prefect.stop()


if __name__ == "__main__":
    main()
