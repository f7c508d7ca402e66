"""Start Chromium for the tests and the pictures."""

import shutil

from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

SIZES = {"desktop": (1280, 900), "phone": (360, 740)}
PROGRAMS = ("chromium", "chromedriver")


def missing() -> str:
    """How to install Chromium and its driver if one is missing; empty otherwise."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return (
        f"{' and '.join(absent)} not found: `apt-get install chromium chromium-driver`, then again"
        if absent
        else ""
    )


def started(size: str) -> Chrome:
    """A headless Chromium in light colours with a window of SIZES; it logs its console and its
    network.
    """
    options = ChromeOptions()
    options.binary_location = str(shutil.which(PROGRAMS[0]))
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--force-color-profile=srgb",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=Service(shutil.which(PROGRAMS[1])))
    width, height = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    coloured(browser, "light")
    return browser


def press(browser: Chrome, *keys: str) -> None:
    """Press keys at the focused element."""
    ActionChains(browser).send_keys(*keys).perform()


def coloured(browser: Chrome, scheme: str) -> None:
    """Emulate a preference for the colour scheme `light` or `dark`."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
