"""Output of a run: a live view, plain lines, or events; and the content of run.log."""

import io
import json
import logging
from pathlib import Path

import pytest
from rich.console import Console as Terminal
from rich.text import Text

from loop.errors import InputError
from loop.reporting import Bar
from loop.run_log import run_log
from loop.terminal.console import Console, EventConsole
from loop.terminal.live_view import LiveConsole
from store import open_store
from tests.support.command_line import run_program
from tests.support.stores import change, finished_run

TRAININGS = 5
"""The cold start's, and SFT and DPO in each of two rounds."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what four runs printed, each asked for another way, and the runs."""
    folder = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TERM": "xterm-256color", "COLUMNS": "90", "LINES": "30"}.items():
            patch.setenv(name, value)
        run_program("four_consoles", folder)
    return folder


@pytest.mark.heavy
def test_events_tell_the_run_and_nothing_else_is_printed(shown: Path) -> None:
    events = [json.loads(line) for line in (shown / "json.out").read_text().splitlines()]
    assert all({"event", "time"} <= event.keys() for event in events)
    named = [(event["event"], event.get("round"), event.get("phase")) for event in events]
    assert named.count(("round_begins", 0, None)) == 1
    for number in (1, 2):
        told = [name for name in named if name[1] == number]
        phases = ["sample", "judge", "fallback", "pair", "update", "swap", "evaluate", "gate"]
        between = [(name, number, phase) for phase in phases for name in ("phase_begins", "phase_ends")]
        assert told == [("round_begins", number, None), *between, ("round_ends", number, "done")]
    store = open_store(shown / "json" / "run", read_only=True)
    samples = store.value("SELECT count(*) FROM sample WHERE round = 2 AND author = 'policy'")
    store.close()
    last = [event for event in events if event["event"] == "round_ends"][-1]
    assert last["samples"] == samples > 0
    assert last["decision"] in ("accepted", "rejected")
    assert last["accuracy"]["cot"]["questions"] > 0


@pytest.mark.heavy
def test_a_terminal_run_draws_a_panel_and_removes_it(shown: Path) -> None:
    text = (shown / "live.out").read_text()
    assert "╭" in text
    assert "round 1 of 2: " in text
    assert "memory" in text
    assert "round 2: held-out CoT" in text
    assert "too narrow for" in text
    end = Text.from_ansi(text[text.rindex("╯") + 1 :]).plain
    assert end.strip() == ""
    assert text.endswith("\x1b[2K")
    assert "warns" not in text
    kept = (shown / "live" / "run" / "run.log").read_text()
    assert kept.count("a library warns") == kept.count("compiled code warns") == TRAININGS


@pytest.mark.heavy
def test_without_a_terminal_a_run_prints_plain_lines(shown: Path) -> None:
    printed = (shown / "plain.out").read_text()
    assert "\x1b" not in printed
    assert "round 1: sample" in printed.splitlines()
    assert any(line.startswith("round 2: held-out CoT") for line in printed.splitlines())
    kept = (shown / "plain" / "run" / "run.log").read_text()
    assert all(line in kept for line in printed.splitlines() if line)


@pytest.mark.heavy
def test_a_quiet_run_prints_nothing_and_logs_the_same(shown: Path) -> None:
    assert (shown / "quiet.out").read_text() == ""
    assert "round 2: held-out CoT" in (shown / "quiet" / "run" / "run.log").read_text()


@pytest.fixture
def live(tmp_path: Path) -> LiveConsole:
    finished_run(tmp_path)
    change(tmp_path, "UPDATE round SET phase = 'sample' WHERE number = 2")
    terminal = Terminal(file=io.StringIO(), force_terminal=True, width=80, height=24, _environ={})
    console = LiveConsole(tmp_path, 2, terminal)
    store = open_store(tmp_path)
    console.phase_begins(store, 2, "sample")
    store.close()
    return console


def lines_of(console: LiveConsole) -> list[str]:
    with console.terminal.capture() as capture:
        console.terminal.print(console.panel())
    return Text.from_ansi(capture.get()).plain.splitlines()


def test_the_panel_shows_phase_progress_and_last_rounds(live: LiveConsole) -> None:
    with live.bar("round 2: sampling", 200, "chain", 40) as bar:
        bar.update(60)
        bar.note(tokens="1,234/s", evil="\x1b[2J")
        shown = lines_of(live)
    assert all(len(line) == 80 for line in shown)
    text = "\n".join(shown)
    assert "round 2 of 2: sample" in text
    assert "100 of 200" in text
    assert "left" in text
    assert [line.split()[1] for line in shown if line.startswith("│")][2:] == ["round", "base", "start", "1", "2"]
    assert "tokens 1,234/s" in text
    assert "sampling" not in "\n".join(lines_of(live))


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_panel_fits_any_terminal(live: LiveConsole, width: int) -> None:
    live.terminal.width = width
    live.terminal.height = 10
    with live.bar("x" * 50, 10, "chain"):
        shown = lines_of(live)
    assert all(len(line) <= width for line in shown)
    assert len(shown) <= 5


def test_hostile_lines_reach_no_terminal(live: LiveConsole, capsys: pytest.CaptureFixture[str]) -> None:
    live.say("teacher said \x1b[2J\u202e\x07")
    written = live.terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "\\x1b[2J" in written
    assert not {"\x07", "\u202e"} & set(written)
    Console().say("teacher said \x1b[2J\u202e\x07")
    assert "\x1b" not in capsys.readouterr().out
    EventConsole().say("teacher said \x1b[2J")
    assert json.loads(capsys.readouterr().out)["text"] == "teacher said \x1b[2J"


class Clock:
    """A clock that stands still until its time is set."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bar_knows_its_rate_and_what_is_left() -> None:
    clock = Clock()
    bar = Bar("sampling", 100, "chain", 20, lambda _: None, clock)
    before = bar.left_s
    clock.seconds += 10
    bar.update(40)
    assert (before, bar.per_second, bar.left_s) == (None, 4.0, 10.0)


def test_a_bar_leaves_a_sign_of_life_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    caplog.set_level(logging.INFO, logger="ratchet")
    with Console(quiet=True, clock=clock).bar("sampling", 1000, "chain") as bar:
        for _ in range(100):
            clock.seconds += 1
            bar.update()
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        f"  sampling: {done} of 1" for done in (30, 60, 90)
    ]


def test_progress_events_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with EventConsole(clock=clock).bar("sampling", 1000, "chain") as bar:
        for _ in range(1000):
            clock.seconds += 0.02
            bar.update()
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert 3 <= len(events) <= 4
    assert events[0]["what"] == "sampling"
    assert events[0]["total"] == 1000


def test_run_log_has_library_messages_at_most_100_times(tmp_path: Path) -> None:
    with run_log(tmp_path / "run"), run_log(tmp_path / "run"):
        for n in range(300):
            logging.getLogger("vllm.somewhere").warning("said at every step")
            logging.getLogger("ratchet").info("line %d", n)
    kept = (tmp_path / "run" / "run.log").read_text()
    assert kept.count("said at every step") == 100
    assert kept.count("not repeated") == 1
    assert kept.count("ratchet: line") == 300


def test_a_run_directory_that_is_a_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"), run_log(tmp_path / "file"):
        pass
