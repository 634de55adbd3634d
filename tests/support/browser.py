"""A real Chromium for tests and for the pictures in the documentation."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "about:blank",
)
DESKTOP, PHONE = (1280, 900), (390, 844)
PATIENCE_S = 30


def give_up(what: str) -> NoReturn:
    """In CI a test that cannot be run has failed; elsewhere it is skipped and says why."""
    message = f"{what}; 'make browser' installs it (apt-get as root, npm)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def chromium(size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> Iterator[Chrome]:
    """A browser with a new profile, which keeps a log of every request and console message."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        give_up("Chromium or its driver is missing")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = browser
        for switch in (*SWITCHES, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        chrome = Chrome(options=options, service=Service(driver))
        try:
            chrome.set_page_load_timeout(60)
            set_size(chrome, size)
            set_dark(chrome, dark)
            yield chrome
        finally:
            chrome.quit()


def open_page(chrome: Chrome, address: str, shown: str = "body") -> None:
    """Load a page anew, whatever the browser shows, and wait until it and `shown` (a CSS selector) are there.

    The driver's own wait may end on the empty document that comes before the page on a busy machine.
    """
    chrome.get("about:blank")
    chrome.get(address)
    WebDriverWait(chrome, PATIENCE_S, poll_frequency=0.05).until(
        lambda _: chrome.execute_script(
            "return location.href === arguments[0] && document.readyState === 'complete'"
            " && document.querySelector(arguments[1]) !== null",
            address,
            shown,
        )
    )


def set_size(chrome: Chrome, size: tuple[int, int]) -> None:
    """The size of what is shown, in CSS pixels, without the window's frame; a phone's too."""
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600},
    )


def set_dark(chrome: Chrome, dark: bool) -> None:
    """Make the browser report a dark or a light colour scheme to the page."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def console_messages(chrome: Chrome) -> list[str]:
    """Warnings and errors since the last call; a broken rule of the content policy is one."""
    entries = chrome.get_log("browser")  # type: ignore[no-untyped-call]
    return [each["message"] for each in entries if each["level"] in ("SEVERE", "WARNING")]


def requests(chrome: Chrome) -> list[str]:
    """Addresses asked for since the last call, but for those that carry their own data and the browser's own pages."""
    entries = chrome.get_log("performance")  # type: ignore[no-untyped-call]
    messages: list[dict[str, Any]] = [json.loads(entry["message"])["message"] for entry in entries]
    sent = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "blob:", "chrome"))]


def picture(chrome: Chrome, file: Path, *, whole: bool = False) -> None:
    """Save the visible part of the page as a PNG, or the whole page."""
    if whole:
        height = chrome.execute_script("return document.documentElement.scrollHeight")
        width = chrome.execute_script("return innerWidth")
        set_size(chrome, (width, height))
    chrome.save_screenshot(str(file))
