"""The accuracy log as people and spreadsheets see it."""

import csv
import io
import json
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import click
import pytest

from loop.errors import LoopError
from loop.evaluation.comparison import compare
from loop.evaluation.statistics import mcnemar_p_value
from loop.reading.accuracy_log import append_finished_rounds, log_rows
from loop.reading.text import format_duration
from loop.terminal.follow import finished_rounds
from loop.terminal.log_table import BARS, COLUMNS, fit_columns, format_log, round_sentence, sparkline
from store import open_store, run_lock
from store.summary import summarise_round
from tests.support.command_line import command
from tests.support.stores import change, finished_run, run_here, shrink_last_round

IMPROVE = "UPDATE evaluation SET outcome = 'correct' WHERE policy = 2 AND style = 'cot' AND question <= 7"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    finished_run(tmp_path)
    change(tmp_path, IMPROVE, "UPDATE evaluation SET outcome = 'correct' WHERE policy = 3 AND question IN (1, 2, 8)")
    return tmp_path


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run_here("log", run_dir, "--json").stdout.splitlines()]


@pytest.mark.parametrize("width", [76, 80, 100, 132, 200, 300])
def test_no_line_of_the_table_is_wider_than_the_terminal(run_dir: Path, width: int) -> None:
    store = open_store(run_dir)
    lines = format_log(store, width).splitlines()
    store.close()
    assert max(map(len, lines)) <= width
    assert lines[0].split()[0] == "round"
    assert [line.split()[0] for line in lines[1:5]] == ["base", "start", "1", "2"]
    assert len({len(line) for line in lines[:5]}) == 1


def test_wider_terminals_show_more_and_hidden_columns_are_named(run_dir: Path) -> None:
    store = open_store(run_dir)
    narrow, wide, whole = format_log(store, 80), format_log(store, 200), format_log(store)
    store.close()
    assert len(narrow.splitlines()[0]) < len(wide.splitlines()[0]) <= len(whole.splitlines()[0])
    assert "too narrow for:" in narrow
    assert "policy" in narrow.partition("too narrow for:")[2]
    assert "too narrow for:" not in whole


def test_columns_of_rank_0_stay_on_any_terminal() -> None:
    assert [column.title for column in fit_columns(COLUMNS, 10)] == ["round", "held-out CoT %", "change", "decision"]


def test_a_change_is_tested_against_the_rounds_first_policy(run_dir: Path) -> None:
    start, first, second = rows_of(run_dir)
    assert first["change"]["cot"] == {
        "against": 1,
        "delta": pytest.approx(7 / 8),
        "gained": 7,
        "lost": 0,
        "p_value": mcnemar_p_value(7, 0),
    }
    assert (second["change"]["cot"]["gained"], second["change"]["cot"]["lost"]) == (1, 5)
    assert second["change"]["cot"]["delta"] == pytest.approx(-4 / 8)
    assert second["change"]["direct"]["gained"] == 3
    assert start["change"]["cot"]["against"] == 0
    assert start["gate"] is None
    table = run_here("log", run_dir).stdout
    assert "+87.5*" in table
    assert "-50.0 " in table
    assert "-50.0*" not in table


def test_the_gates_figure_is_on_its_own_split(run_dir: Path) -> None:
    change(run_dir, "UPDATE round SET compared_with = 1 WHERE number = 2")
    assert rows_of(run_dir)[2]["gate"]["split"] == "test"
    change(
        run_dir,
        "INSERT INTO evaluation (policy, split, style, question, text, tokens, finish_reason, judge, judge_version,"
        " score, outcome) SELECT policy, 'gate', 'direct', question, text, tokens, finish_reason, judge, judge_version,"
        " score, outcome FROM evaluation WHERE style = 'cot' AND policy IN (1, 3) AND question <= 4",
        "UPDATE question SET split = 'gate' WHERE id = (SELECT max(id) FROM question)",
        "UPDATE run SET configuration = json_set(configuration, '$.sampling.style', 'direct')",
    )
    gate = rows_of(run_dir)[2]["gate"]
    assert (gate["split"], gate["style"], gate["questions"], gate["gained"], gate["lost"]) == (
        "gate",
        "direct",
        4,
        2,
        0,
    )
    assert gate["accuracy"] == pytest.approx(0.5)
    store = open_store(run_dir)
    assert gate["p_value"] == compare(store, 3, 1, "gate", "direct").p_value
    store.close()


def test_the_curve_spans_the_intervals() -> None:
    flat = [{"accuracy": 0.5, "low": 0.4, "high": 0.6}] * 3
    assert len(set(sparkline(flat))) == 1
    rising = [{"accuracy": a, "low": a - 0.01, "high": a + 0.01} for a in (0.1, 0.5, 0.9)]
    assert list(sparkline(rising)) == sorted(sparkline(rising), key=BARS.index)
    assert len(set(sparkline(rising))) == 3


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1m00s"), (125, "2m05s"), (3 * 3600 + 61, "3h01m"), (90_000, "1d01h")]
)
def test_durations_are_as_people_write_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_an_accepted_shrunk_candidate_says_how_far_it_was_shrunk(run_dir: Path) -> None:
    shrunk = shrink_last_round(run_dir, alpha=0.25)
    store = open_store(run_dir)
    (row,) = log_rows(store, after=1)
    assert (row["policy"], row["decision"], row["best_policy"]) == (shrunk, "accepted", shrunk)
    assert format_log(store, 80).splitlines()[4].split()[-2:] == ["shrunk", "0.25"]
    assert f"{click.style('shrunk 0.25', fg='green')}\n" in format_log(store, colour=True)
    assert max(map(len, format_log(store, 76).splitlines())) <= 76
    assert "shrunk to 0.25 of its way, accepted" in round_sentence(row)
    assert "by the gate's questions" not in format_log(store)
    store.close()


def test_the_log_names_a_best_policy_that_is_not_the_last(run_dir: Path) -> None:
    shrunk = shrink_last_round(run_dir, best=2)
    note = f"best: policy 2 (round 1), by the gate's questions; rounds go on from policy {shrunk}"
    assert note in run_here("log", run_dir).stdout.splitlines()
    rows = list(csv.DictReader(io.StringIO(run_here("log", run_dir, "--csv").stdout)))
    assert [row["best_policy"] for row in rows] == ["", "", "2"]
    change(run_dir, "UPDATE round SET best_policy = 1 WHERE number = 2")
    assert "best: policy 1 (the cold start), by" in run_here("log", run_dir).stdout


def test_csv_has_every_round_and_no_formula(run_dir: Path) -> None:
    change(run_dir, "UPDATE round SET reason = ? WHERE number = 1", parameters=('=HYPERLINK("x")\n\x1b[31m',))
    rows = list(csv.DictReader(io.StringIO(run_here("log", run_dir, "--csv").stdout)))
    assert [row["round"] for row in rows] == ["0", "1", "2"]
    assert rows[1]["reason"] == '\'=HYPERLINK("x")\\n\\x1b[31m'
    assert float(rows[2]["change.cot.delta"]) == pytest.approx(-0.5)
    assert float(rows[1]["accuracy.cot.accuracy"]) == pytest.approx(7 / 8)


def test_two_formats_at_once_are_bad_input(run_dir: Path) -> None:
    done = run_here("log", run_dir, "--csv", "--json", check=2)
    assert "give one" in done.stderr


def test_follow_prints_each_finished_round_and_ends_with_the_run(run_dir: Path) -> None:
    change(run_dir, "UPDATE round SET phase = 'gate' WHERE number = 2")
    seen: list[int] = []
    with run_lock(run_dir):

        def read() -> None:
            store = open_store(run_dir, read_only=True)
            seen.extend(row["round"] for row in finished_rounds(store, poll_s=0.02))
            store.close()

        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(0.2)
        assert seen == [0, 1]
        assert reader.is_alive()
        change(run_dir, "UPDATE round SET phase = 'done' WHERE number = 2")
    reader.join(timeout=10)
    assert not reader.is_alive()
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_following_a_run_that_is_over_prints_it_and_ends(run_dir: Path, form: str | None) -> None:
    lines = run_here("log", run_dir, "--follow", *([form] if form else [])).stdout.splitlines()
    if form == "--json":
        assert [json.loads(line)["round"] for line in lines] == [0, 1, 2]
    elif form == "--csv":
        assert [row["round"] for row in csv.DictReader(lines)] == ["0", "1", "2"]
    else:
        assert [line.split()[0] for line in lines] == ["round", "base", "start", "1", "2"]


def test_following_a_run_that_died_says_so(run_dir: Path) -> None:
    change(run_dir, "UPDATE session SET ended = NULL, end_reason = NULL")
    followed = run_here("log", run_dir, "--follow")
    assert [line.split()[0] for line in followed.stdout.splitlines()][-1] == "2"
    assert "the run is stale (its process died without a message" in followed.stderr


def test_columns_widen_for_large_figures(run_dir: Path) -> None:
    change(run_dir, "UPDATE phase_time SET seconds = seconds + 123456 WHERE round = 2")
    store = open_store(run_dir)
    lines = format_log(store).splitlines()
    store.close()
    assert len({len(line) for line in lines[:5]}) == 1
    assert not any("too narrow for" in line for line in lines)


def test_ctrl_c_ends_following_quietly(run_dir: Path) -> None:
    with run_lock(run_dir):
        follower = subprocess.Popen(
            command("log", run_dir, "--follow"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert follower.stdout is not None
        assert [follower.stdout.readline().split()[0] for _ in range(5)][-1] == "2"
        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=10)
    assert follower.returncode == 0
    assert errors == ""


def test_shares_of_samples_wait_until_all_are_judged(run_dir: Path) -> None:
    assert run_here("log", run_dir).stdout.splitlines()[4].split()[-2:] != ["-", "judge"]
    change(
        run_dir,
        "UPDATE round SET phase = 'judge', decision = NULL WHERE number = 2",
        "DELETE FROM round_summary WHERE round = 2",
    )
    store = open_store(run_dir)
    (row,) = store.rows("SELECT samples, pass_rate, truncated FROM round_log WHERE round = 2")
    assert tuple(row) == (log_rows(store)[2]["samples"], None, None)
    lines = format_log(store).splitlines()
    store.close()
    place = lines[0].index("pass %")
    assert lines[3][place : place + 6].strip() not in ("", "-")
    assert lines[4][place : place + 6].strip() == "-"


def test_an_accuracy_waits_for_its_whole_evaluation(run_dir: Path) -> None:
    change(run_dir, "UPDATE round SET phase = 'evaluate', decision = NULL WHERE number = 2")
    store = open_store(run_dir)
    row = log_rows(store)[2]
    assert row["accuracy"] == row["change"] == {"cot": None, "direct": None}
    assert log_rows(store)[1]["accuracy"]["cot"] is not None
    store.close()


def test_accuracy_waits_for_the_answers_of_a_shrunk_policy(run_dir: Path) -> None:
    shrink_last_round(run_dir)
    change(run_dir, "UPDATE round SET phase = 'gate' WHERE number = 2")
    store = open_store(run_dir)
    assert log_rows(store)[2]["accuracy"] == {"cot": None, "direct": None}
    store.close()
    change(run_dir, "UPDATE round SET phase = 'done' WHERE number = 2")
    store = open_store(run_dir)
    assert log_rows(store)[2]["accuracy"]["cot"] is not None
    store.close()


def test_a_damaged_rounds_file_is_named_a_deleted_one_rewritten(run_dir: Path) -> None:
    file, store = run_dir / "rounds.jsonl", open_store(run_dir)
    file.write_text('{"round": 0}\n{"rou\n')
    with pytest.raises(LoopError, match=r"rounds\.jsonl: its last line is damaged; delete the file"):
        append_finished_rounds(store, file)
    file.unlink()
    append_finished_rounds(store, file)
    file.write_text(file.read_text() + '{"round": 3, "half')
    append_finished_rounds(store, file)
    assert [json.loads(line)["round"] for line in file.read_text().splitlines()] == [0, 1, 2]
    store.close()


SUMS = ("evaluation_summary", "comparison")


def test_the_sums_of_finished_rounds_say_what_counting_says(tmp_path: Path) -> None:
    finished_run(tmp_path)
    store = open_store(tmp_path)
    summed = log_rows(store)
    kept = {table: {row["policy"] for row in store.rows(f"SELECT policy FROM {table}")} for table in SUMS}
    store.close()
    assert kept == {"evaluation_summary": {0, 1, 2, 3}, "comparison": {1, 2, 3}}
    change(tmp_path, *(f"DELETE FROM {table}" for table in SUMS))
    store = open_store(tmp_path)
    assert log_rows(store) == summed
    store.close()


def test_a_changed_evaluation_drops_the_sums_it_was_part_of(tmp_path: Path) -> None:
    finished_run(tmp_path)
    for statement in (
        "UPDATE evaluation SET score = 0.5 WHERE policy = 2 AND id = (SELECT min(id) FROM evaluation WHERE policy = 2)",
        "DELETE FROM evaluation WHERE policy = 2 AND style = 'direct'",
        "INSERT INTO evaluation (policy, split, style, question, text, tokens, finish_reason, judge, judge_version,"
        " score, outcome) SELECT 2, 'elsewhere', style, question, text, tokens, finish_reason, judge, judge_version,"
        " score, outcome FROM evaluation WHERE policy = 1",
    ):
        store = open_store(tmp_path)
        summarise_round(store, 2)
        assert store.value("SELECT count(*) FROM evaluation_summary WHERE policy = 2")
        store.close()
        change(tmp_path, statement)
        store = open_store(tmp_path)
        of = "SELECT count(*) FROM {} WHERE {}"
        assert store.value(of.format("evaluation_summary", "policy = 2")) == 0
        assert store.value(of.format("comparison", "policy = 2 OR other = 2")) == 0
        assert store.value(of.format("evaluation_summary", "policy = 1"))
        store.close()


def test_a_run_without_a_round_has_an_empty_log(run_dir: Path) -> None:
    change(run_dir, "PRAGMA foreign_keys = OFF", "DELETE FROM round")
    store = open_store(run_dir)
    assert log_rows(store) == []
    assert format_log(store, 80).splitlines()[0].split()[0] == "round"
    store.close()


def test_a_run_that_only_has_a_cold_start_has_no_curve(run_dir: Path) -> None:
    change(run_dir, "PRAGMA foreign_keys = OFF", "DELETE FROM round WHERE number > 0")
    table = run_here("log", run_dir).stdout
    assert [line.split()[0] for line in table.splitlines()[:3]] == ["round", "base", "start"]
    assert "best" not in table
