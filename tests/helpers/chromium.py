"""Chromium as the tests and the pictures start it."""

import shutil

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

SIZES = {"desktop": (1280, 900), "phone": (360, 740)}
PROGRAMS = ("chromium", "chromedriver")


def missing() -> str:
    """What to do when Chromium or its driver is not there; empty when they are."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{' and '.join(absent)} not found: `apt-get install chromium chromium-driver`, then again" if absent else ""


def started(size: str, *, scheme: str = "light", scale: int = 1) -> Chrome:
    """A headless Chromium with the window of a desk or of a phone; its console and its network are kept."""
    options = ChromeOptions()
    options.binary_location = str(shutil.which(PROGRAMS[0]))
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=Service(shutil.which(PROGRAMS[1])))
    width, height = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": size == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    coloured(browser, scheme)
    return browser


def coloured(browser: Chrome, scheme: str) -> None:
    """As somebody sees it who prefers `light` or `dark`."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
