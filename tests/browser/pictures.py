"""Take the pictures of the web page in docs/.

`python -m tests.browser.pictures ADDRESS`, where ADDRESS is that of a running `cmt serve`.
"""

import base64
import sys
from pathlib import Path
from urllib.parse import urlencode

from selenium.webdriver import Chrome, Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.helpers.chromium import missing, started

DOCS = Path(__file__).parents[2] / "docs"
QUESTION, AS_OF = "What does a single ticket on the Saltby ferry cost?", "2031-02-15"


def take(url: str, size: str, scheme: str, path: Path) -> None:
    """Ask as of a day, move the date to the last day, and write a screenshot of the window to `path`."""
    with started(size, scheme=scheme, scale=1 if size == "desktop" else 2) as browser:
        browser.get(f"{url}/#{urlencode({'q': QUESTION, 'as-of': AS_OF})}")
        wait_for_answers(browser, 1)
        browser.find_element("id", "day").send_keys(Keys.END)
        wait_for_answers(browser, 2)
        browser.execute_script("document.activeElement.blur()")
        shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))


def wait_for_answers(browser: Chrome, count: int) -> None:
    """Wait until the page lists the answers on `count` days."""
    rows = "return document.querySelectorAll('#history button').length"
    WebDriverWait(browser, 60).until(lambda _: browser.execute_script(rows) == count)


if __name__ == "__main__":
    if missing():
        sys.exit(missing())
    take(sys.argv[1], "desktop", "light", DOCS / "serve.png")
    take(sys.argv[1], "phone", "dark", DOCS / "serve-phone.png")
