"""The report and the live pages in a real Chromium: they work by mouse and by keyboard, and ask nobody anything."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from store import open_store
from store.rounds import start_round
from tests.support.browser import (
    PATIENCE_S,
    PHONE,
    chromium,
    console_messages,
    give_up,
    open_page,
    requests,
    set_dark,
    set_size,
)
from tests.support.command_line import PROJECT, command, run_command
from tests.support.looked_at_run import HOSTILE, make_run

AXE = PROJECT / ".venv" / "axe.min.js"
FAULTS = """const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations
  .filter((each) => ['serious', 'critical'].includes(each.impact))
  .map((each) => `${each.id}: ${each.nodes.slice(0, 3).map((node) => node.html).join(' ')}`)));"""
SHIFTS = """const done = arguments[arguments.length - 1];
let sum = 0;
new PerformanceObserver((list) => list.getEntries().forEach((each) => { sum += each.value; }))
  .observe({type: 'layout-shift', buffered: true});
requestAnimationFrame(() => setTimeout(() => done(sum), 200));"""
pytestmark = pytest.mark.heavy

ROWS = "table.questions tbody tr"
CHARTS = 11
WHOLE = 12
"""Held-out questions of the run, half of all."""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("seen") / "run")


@pytest.fixture(scope="module")
def report(run_dir: Path) -> str:
    run_command("report", run_dir, "-o", run_dir / "report.html")
    return (run_dir / "report.html").as_uri()


@pytest.fixture(scope="module")
def live(run_dir: Path) -> Iterator[str]:
    server = subprocess.Popen(command("serve", run_dir, "--port", 0), stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split(" at ")[1].split()[0]
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as chrome:
        yield chrome


@pytest.fixture
def chrome(browser: Chrome) -> Iterator[Chrome]:
    open_page(browser, "about:blank")
    console_messages(browser)
    requests(browser)
    yield browser
    set_dark(browser, False)
    set_size(browser, (1280, 900))


def wait(chrome: Chrome, seen: Callable[[Chrome], bool]) -> None:
    WebDriverWait(chrome, PATIENCE_S, poll_frequency=0.05).until(seen)


def rows(chrome: Chrome) -> list[str]:
    script = f"return [...document.querySelectorAll('{ROWS}')].map((row) => row.innerText)"
    texts: list[str] = chrome.execute_script(script)
    return texts


def ids(chrome: Chrome) -> list[int]:
    return [int(row.split()[0]) for row in rows(chrome)]


def serious_faults(chrome: Chrome) -> list[str]:
    if not AXE.exists():
        give_up("axe-core is missing")
    chrome.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    chrome.execute_script(AXE.read_text())
    faults: list[str] = chrome.execute_async_script(FAULTS)
    return faults


def test_the_report_opens_in_silence_and_asks_for_nothing(chrome: Chrome, report: str) -> None:
    open_page(chrome, report, ROWS)
    assert len(chrome.find_elements(By.CSS_SELECTOR, ".chart canvas")) == CHARTS
    assert len(rows(chrome)) == WHOLE
    assert requests(chrome) == [report]
    assert console_messages(chrome) == []


def test_the_report_searches_sorts_and_filters(chrome: Chrome, report: str) -> None:
    open_page(chrome, report, ROWS)
    assert ids(chrome) == list(range(13, 25))
    chrome.find_element(By.CSS_SELECTOR, "th[data-order=id] a").click()
    wait(chrome, lambda _: ids(chrome) == list(range(24, 12, -1)))
    chrome.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("number 9", Keys.ENTER)
    wait(chrome, lambda _: ids(chrome) == [22])
    open_page(chrome, f"{report}#questions?set=sampled&first=1&second=3&order=second", ROWS)
    shares = [cell.text for cell in chrome.find_elements(By.CSS_SELECTOR, f"{ROWS} [data-cell=second]")]
    counted = [int(share.split("/")[0]) for share in shares]
    assert counted == sorted(counted)
    open_page(chrome, f"{report}#questions?set=test&first=2&second=3&show=lost", ROWS)
    assert rows(chrome)
    assert all("right" in row and "wrong" in row for row in rows(chrome))


def test_a_question_opens_by_keyboard_and_closes_by_escape(chrome: Chrome, report: str) -> None:
    open_page(chrome, f"{report}#questions?set=sampled&first=1&second=3", ROWS)
    chrome.find_element(By.CSS_SELECTOR, f"{ROWS} a").send_keys(Keys.ENTER)
    wait(chrome, lambda _: len(chrome.find_elements(By.CSS_SELECTOR, "dialog[open] .side")) == 2)
    titles = [each.text[:7] for each in chrome.find_elements(By.CSS_SELECTOR, "dialog .side h3")]
    assert titles == ["round 1", "round 3"]
    assert len(chrome.find_elements(By.CSS_SELECTOR, "dialog .attempt")) == 8
    chrome.find_element(By.ID, "after").click()
    wait(chrome, lambda _: chrome.find_element(By.ID, "open-title").text == "Question 2")
    chrome.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait(chrome, lambda _: not chrome.find_elements(By.CSS_SELECTOR, "dialog[open]"))
    assert chrome.switch_to.active_element.get_attribute("aria-label") == "question 1"
    assert console_messages(chrome) == []


def test_arrow_keys_walk_along_a_chart(chrome: Chrome, report: str) -> None:
    open_page(chrome, report)
    chart = chrome.find_element(By.ID, "chart-accuracy")
    chart.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert (chart.get_attribute("aria-description") or "").startswith("round 1\nwith reasoning: ")


def test_live_pages_log_nothing_and_ask_only_their_server(chrome: Chrome, live: str) -> None:
    open_page(chrome, live)
    wait(chrome, lambda _: len(chrome.find_elements(By.CSS_SELECTOR, ".chart canvas")) == CHARTS)
    chrome.find_element(By.LINK_TEXT, "Questions").click()
    wait(chrome, lambda _: len(rows(chrome)) == WHOLE)
    chrome.find_element(By.CSS_SELECTOR, "th[data-order=id] a").click()
    wait(chrome, lambda _: ids(chrome) == list(range(24, 12, -1)))
    chrome.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("number 9", Keys.ENTER)
    wait(chrome, lambda _: ids(chrome) == [22])
    chrome.find_element(By.CSS_SELECTOR, f"{ROWS} a").click()
    wait(chrome, lambda _: len(chrome.find_elements(By.CSS_SELECTOR, ".attempt")) >= 4)
    assert all(url.startswith(live) for url in requests(chrome))
    assert console_messages(chrome) == []


def test_the_live_overview_follows_the_run_without_a_reload(chrome: Chrome, live: str, run_dir: Path) -> None:
    open_page(chrome, live)
    chrome.execute_script("window.same = true; document.querySelector('details').open = true")
    store = open_store(run_dir)
    start_round(store, 4, "sample", 3, range(1, 5))
    try:
        wait(chrome, lambda _: "Round 4: sample" in chrome.find_element(By.ID, "status").text)
        assert chrome.execute_script("return window.same && document.querySelector('details').open")
        assert console_messages(chrome) == []
    finally:
        with store.transaction():
            store.connection.execute("DELETE FROM round_question WHERE round = 4")
            store.connection.execute("DELETE FROM round WHERE number = 4")
        store.close()


def test_what_a_model_wrote_is_text_in_every_place(chrome: Chrome, report: str, live: str) -> None:
    for number in (*range(1, 9), 13, 14):
        chosen = "sampled" if number < 13 else "test"
        open_page(chrome, f"{report}#questions?set={chosen}&first=2&second=3&open={number}", "dialog[open] .attempt")
        assert chrome.execute_script("return window.hacked") is None
        open_page(chrome, f"{live}questions/{number}?set={chosen}&first=2&second=3")
        assert chrome.execute_script("return [window.hacked, document.documentElement.scrollWidth <= innerWidth]") == [
            None,
            True,
        ]
        if number < 3:
            assert HOSTILE[number - 1] in chrome.find_element(By.CSS_SELECTOR, ".asked").text
    assert console_messages(chrome) == []


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_fault(chrome: Chrome, report: str, live: str, dark: bool) -> None:
    set_dark(chrome, dark)
    opened = f"{report}#questions?set=test&first=2&second=3&open=13"
    for page in (report, opened, live, f"{live}questions", f"{live}questions/13?first=2&second=3"):
        open_page(chrome, page, "dialog[open] .attempt" if page == opened else "main")
        assert serious_faults(chrome) == [], page


def test_a_phone_needs_no_sideways_scrolling_and_nothing_jumps(chrome: Chrome, report: str, live: str) -> None:
    set_size(chrome, PHONE)
    for page in (report, live, f"{live}questions", f"{live}questions/2?set=sampled"):
        open_page(chrome, page)
        assert chrome.execute_script("return document.documentElement.scrollWidth") == PHONE[0], page
        assert chrome.execute_async_script(SHIFTS) < 0.05, page


def test_a_large_report_keeps_2000_questions_and_opens(chrome: Chrome, tmp_path: Path) -> None:
    run = make_run(tmp_path / "large", questions=10_000)
    run_command("report", run, "-o", run / "report.html")
    open_page(chrome, (run / "report.html").as_uri(), ROWS)
    assert len(rows(chrome)) == 50
    assert "1 to 50 of 1,000 questions" in chrome.find_element(By.ID, "where").text
