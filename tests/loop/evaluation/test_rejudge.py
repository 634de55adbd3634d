"""The past judged again: both verdicts are kept, and what turns is what a plain query finds."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from judges import find_judge, give_verdict
from loop.evaluation.rejudge import rejudge
from loop.terminal.console import Console
from store import open_store
from tests.support.stores import change, finished_run, run_here

PATTERN = 'regex(pattern="r.d")'
"""A judge that calls one answer right, whatever the question."""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return finished_run(tmp_path)


def query(run_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(run_dir / "store.db")) as store:
        return store.execute(sql).fetchall()


def verdicts(run_dir: Path) -> list[tuple[Any, ...]]:
    return [*query(run_dir, "SELECT * FROM verdict"), *query(run_dir, "SELECT * FROM evaluation")]


def test_the_pairs_that_turn_are_those_of_a_plain_query(run_dir: Path) -> None:
    before = verdicts(run_dir)
    said = json.loads(run_here("rejudge", run_dir, "--judge", PATTERN, "--json").stdout)
    plain = query(
        run_dir,
        """SELECT pair.id FROM pair
        JOIN verdict AS c ON c.sample = chosen JOIN verdict AS r ON r.sample = rejected
        JOIN rejudged AS nc ON nc.sample = chosen JOIN rejudged AS nr ON nr.sample = rejected
        WHERE c.outcome = 'correct' AND r.outcome = 'wrong' AND (nc.outcome <> 'correct' OR nr.outcome <> 'wrong')
        ORDER BY 1""",
    )
    assert plain
    assert [pair["id"] for pair in said["turned_pairs"]] == [number for (number,) in plain]
    assert verdicts(run_dir) == before


def test_each_verdict_is_what_the_judge_says_of_that_text(run_dir: Path) -> None:
    run_here("rejudge", run_dir, "--judge", PATTERN)
    judge = find_judge(PATTERN)
    rows = query(
        run_dir,
        """SELECT sample.text, answers, finish_reason, style, new.outcome, new.extracted FROM sample
        JOIN question ON question.id = sample.question JOIN rejudged AS new ON new.sample = sample.id""",
    )
    assert len(rows) == query(run_dir, "SELECT count(*) FROM verdict")[0][0]
    for text, answers, finish_reason, style, outcome, extracted in rows:
        said = give_verdict(judge, text, json.loads(answers), finish_reason=finish_reason, needs_marker=style == "cot")
        assert (outcome, extracted) == (said.outcome, said.extracted)


def test_a_new_version_of_a_judge_judges_the_past_again(run_dir: Path) -> None:
    """The stored verdicts are of an older version that called sample 1 wrong and evaluation 5 right."""
    change(
        run_dir,
        "UPDATE verdict SET judge_version = '0'",
        "UPDATE evaluation SET judge_version = '0'",
        "UPDATE verdict SET outcome = 'wrong', score = 0 WHERE sample = 1",
        "UPDATE evaluation SET outcome = 'judge_error', score = 0 WHERE id = 5",
    )
    said = json.loads(run_here("rejudge", run_dir, "--json").stdout)
    assert said["judges"] == [{"judge": "exact", "version": "1"}]
    assert [(row["id"], row["before"], row["after"]) for row in said["turned_samples"]] == [(1, "wrong", "correct")]
    assert [(row["id"], row["before"]) for row in said["turned_evaluations"]] == [(5, "judge_error")]


def test_samples_with_a_verdict_of_this_version_are_left_alone(run_dir: Path) -> None:
    assert "every verdict is of this judge" in run_here("rejudge", run_dir).stdout
    assert query(run_dir, "SELECT count(*) FROM rejudged") == [(0,)]
    first = run_here("rejudge", run_dir, "--judge", PATTERN).stdout
    assert run_here("rejudge", run_dir, "--judge", PATTERN).stdout == first
    said = json.loads(run_here("rejudge", run_dir, "--judge", PATTERN, "--json").stdout)
    assert set(said["new"].values()) == {0}


def test_interrupted_it_goes_on_where_it_was(run_dir: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with closing(open_store(run_dir)) as store:
        with pytest.raises(KeyboardInterrupt):
            rejudge(store, PATTERN, Console(quiet=True), stop, batch=10)
        assert query(run_dir, "SELECT count(*) FROM rejudged") == [(10,)]
        found = rejudge(store, PATTERN, Console(quiet=True))
    total = query(run_dir, "SELECT count(*) FROM verdict")[0][0]
    assert found.new["sample"] == total - 10
    assert query(run_dir, "SELECT count(*), count(DISTINCT sample) FROM rejudged") == [(total, total)]


def test_a_record_shows_both_verdicts_and_the_run_is_as_it_was(run_dir: Path) -> None:
    log = run_here("log", run_dir).stdout
    run_here("rejudge", run_dir, "--judge", PATTERN)
    assert "judged again" in run_here("show", run_dir, "sample", 10).stdout
    record = json.loads(run_here("show", run_dir, "sample", 10, "--json").stdout)
    assert record["outcome"] == "wrong"
    assert [each["outcome"] for each in record["rejudged"]] == ["correct"]
    assert run_here("log", run_dir).stdout == log
    assert query(run_dir, "PRAGMA foreign_key_check") == []


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("exakt", "--judge: judge 'exakt' is unknown"),
        ("llm", "--judge: judge 'llm' asks a model"),
        ("vqa", "name a judge that fits its answers with --judge"),
    ],
)
def test_a_judge_that_cannot_do_it_is_refused(judge: str, said: str, run_dir: Path) -> None:
    assert said in run_here("rejudge", run_dir, "--judge", judge, check=2).stderr
    assert query(run_dir, "SELECT count(*) FROM rejudged") == [(0,)]


def test_completions_of_other_trainers_are_judged_by_our_judges(tmp_path: Path) -> None:
    log = tmp_path / "1.jsonl"
    row = {"input": "1+1?", "output": "### Answer: 2.0", "gts": "2", "score": 0.0, "step": 1}
    log.write_text(json.dumps(row) + "\n")
    run_here("import", tmp_path / "seen", "completions", log)
    said = json.loads(run_here("rejudge", tmp_path / "seen", "--judge", "numeric", "--json").stdout)
    assert [(each["before"], each["after"]) for each in said["turned_samples"]] == [("wrong", "correct")]
