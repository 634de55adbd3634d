"""The pictures of the pages in the documentation, of a real run: `make screenshots DIR=runs/demo`.

Writes docs/pictures/report-light.png, report-dark.png, report-phone.png, questions.png and question.png.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.browser import DESKTOP, PHONE, chromium, console_messages, open_page, set_dark, set_size

PROJECT = Path(__file__).resolve().parent.parent
FOLDER = PROJECT / "docs" / "pictures"
MOST_BYTES = 300_000


def main() -> None:
    """Write the report of the run, open it, take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        subprocess.run([sys.executable, PROJECT / "run_loop.py", "report", sys.argv[1], "-o", report], check=True)
        with chromium() as chrome:
            open_page(chrome, report.as_uri(), "table.questions tbody tr")
            take(chrome, "report-light")
            set_dark(chrome, True)
            scroll_to(chrome, "curves")
            take(chrome, "report-dark")
            set_dark(chrome, False)
            set_size(chrome, PHONE)
            scroll_to(chrome, "curves")
            take(chrome, "report-phone")
            set_size(chrome, DESKTOP)
            chrome.find_elements(By.CSS_SELECTOR, "#rounds-table a")[-1].click()
            wait_for(chrome, "table.questions tbody tr")
            take(chrome, "questions")
            chrome.find_element(By.CSS_SELECTOR, "table.questions tbody a").click()
            wait_for(chrome, "dialog[open] .attempt")
            take(chrome, "question")
            if messages := console_messages(chrome):
                raise SystemExit("\n".join(messages))


def wait_for(chrome: Chrome, selector: str) -> None:
    """Until something is there to be seen."""
    WebDriverWait(chrome, 10).until(lambda _: chrome.find_elements(By.CSS_SELECTOR, selector))


def scroll_to(chrome: Chrome, name: str) -> None:
    """Bring a heading to the top."""
    chrome.execute_script("document.getElementById(arguments[0]).scrollIntoView()", name)


def take(chrome: Chrome, name: str) -> None:
    """Save the visible part of the page as a small PNG."""
    file = FOLDER / f"{name}.png"
    chrome.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    chrome.save_screenshot(str(file))
    with Image.open(file) as seen:
        seen.convert("RGB").quantize(128).save(file, optimize=True)
    size = file.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{file} has {size} bytes, more than {MOST_BYTES}")
    print(f"{file.relative_to(PROJECT)}: {size // 1000} kB")


if __name__ == "__main__":
    main()
