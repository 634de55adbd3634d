"""Whole runs of scripted weights with questions that cannot be asked: the rounds go on without them."""

import json
import os
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loop.errors import LoopError
from store import open_store
from store.maintenance.check import find_faults
from store.unusable import drop_questions, unusable_questions
from tests.support.forked import run_forked
from tests.support.scripted_run import Script, content, in_process, run_scripted, scripted_config

REFUSED = ("easy 1:", "easy 4:", "easy 13:", "easy 16:")
"""Two questions of split train, two of split test."""

SEQUENTIAL: dict[str, Any] = {"rule": "sequential", "first_look": 3, "guard": ["direct"]}


def refuses(text: str) -> bool:
    return text.startswith(REFUSED)


def rows(run_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(run_dir / "store.db")
    found = connection.execute(sql).fetchall()
    connection.close()
    return found


def with_refusals(folder: Path) -> None:
    script = Script(refuses=refuses)
    for name, gate in (("run", {}), ("sequential", SEQUENTIAL)):
        run_scripted(folder / name / "run", scripted_config(folder / name, gate=gate), script=script)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("refusals")
    for name in ("run", "sequential"):
        (made / name).mkdir()
    run_forked(with_refusals, made)
    return made


@pytest.mark.parametrize("name", ["run", "sequential"])
def test_refused_questions_are_marked_and_every_round_ends(folder: Path, name: str) -> None:
    run_dir = folder / name / "run"
    assert rows(run_dir, "SELECT number, phase FROM round ORDER BY 1") == [(0, "done"), (1, "done"), (2, "done")]
    marked = rows(run_dir, "SELECT text, unusable FROM question WHERE unusable IS NOT NULL ORDER BY id")
    assert {text.split(":")[0] + ":" for text, _ in marked} <= set(REFUSED)
    assert {reason for _, reason in marked} == {"refused by the sampler: no reason"}
    assert {"easy 13:", "easy 16:"} <= {text.split(":")[0] + ":" for text, _ in marked}
    store = open_store(run_dir)
    assert list(find_faults(store, lambda _: None)) == []
    store.close()


def test_a_refused_question_is_in_no_sample_vote_or_later_round(folder: Path) -> None:
    run_dir = folder / "run" / "run"
    sampled = rows(run_dir, "SELECT DISTINCT text FROM question JOIN round_question ON id = question WHERE round = 1")
    refused = [text for (text,) in sampled if refuses(text)]
    assert refused, "round 1 draws 8 of 12 questions; the seed has it draw one of the two"
    for table in ("sample", "vote"):
        of = (
            f"SELECT count(*) FROM {table} JOIN question ON question.id = question WHERE round > 0 AND unusable NOTNULL"
        )
        assert rows(run_dir, of) == [(0,)]
    in_round_2 = "SELECT text FROM question JOIN round_question ON id = question WHERE round = 2"
    assert not set(refused) & {text for (text,) in rows(run_dir, in_round_2)}
    assert rows(run_dir, "SELECT count(*) FROM sample WHERE author = 'policy' AND round = 1") == [
        (6 * (len(sampled) - len(refused)),)
    ]


def killed_while_refusing(folder: Path) -> None:
    """Kill it at each commit of the phases that ask the sampler, and print in which tables the runs differ."""
    names: list[str] = []
    config, script = scripted_config(folder, gate=SEQUENTIAL), Script(refuses=refuses)
    run_scripted(folder / "unbroken", config, names.append, script)
    expected = content(folder / "unbroken")
    points = [n for n, name in enumerate(names) if "commit" in name and name.split(": ")[1] in ("sample", "evaluate")]
    differing: dict[str, list[str]] = {}
    for point in points[::3]:
        run_dir, left = folder / f"killed{point}", point + 1

        def reached(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        died = in_process(lambda: run_scripted(run_dir, config, reached, script))  # noqa: B023 (called at once)
        assert died == signal.SIGKILL
        assert in_process(lambda: run_scripted(run_dir, config, None, script)) == 0  # noqa: B023
        found = content(run_dir)
        differing[names[point]] = [table for table in expected if found[table] != expected[table]]
    print(json.dumps(differing))


@pytest.mark.heavy
def test_killed_around_refusals_a_run_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    differing = json.loads(run_forked(killed_while_refusing, tmp_path).stdout.splitlines()[-1])
    assert len(differing) > 5
    assert {name: tables for name, tables in differing.items() if tables} == {}


def refusing_everything(folder: Path) -> None:
    with pytest.raises(LoopError, match=r"takes none of the \d+ questions.*engine\.max_model_len"):
        run_scripted(folder / "run", scripted_config(folder), script=Script(refuses=lambda text: True))


def test_a_sampler_that_refuses_everything_ends_the_run(tmp_path: Path) -> None:
    run_forked(refusing_everything, tmp_path)
    assert rows(tmp_path / "run", "SELECT count(*) FROM question WHERE unusable NOTNULL") == [(0,)]


def refusing_a_round(folder: Path) -> None:
    """The sampler takes no question of round 1; they are dropped, and the run is continued."""
    run_dir, config = folder / "run", scripted_config(folder)
    trained = tuple(f"{kind} {n}:" for kind in ("easy", "hard") for n in range(13))
    with pytest.raises(LoopError, match=r"takes none of the \d+ questions.*'drop'"):
        run_scripted(run_dir, config, script=Script(refuses=lambda text: text.startswith(trained)))
    store = open_store(run_dir)
    drawn = [row[0] for row in store.rows("SELECT question FROM round_question WHERE round = 1")]
    texts = [store.value("SELECT text FROM question WHERE id = ?", each) for each in drawn]
    drop_questions(store, drawn, "too long")
    store.close()
    run_scripted(run_dir, config, script=Script(refuses=lambda text: text.startswith(tuple(texts))))


def test_a_fully_refused_round_continues_after_drop(tmp_path: Path) -> None:
    run_forked(refusing_a_round, tmp_path)
    assert rows(tmp_path / "run", "SELECT number, phase FROM round ORDER BY 1") == [
        (0, "done"),
        (1, "done"),
        (2, "done"),
    ]
    assert rows(tmp_path / "run", "SELECT count(*) FROM sample WHERE round = 1 AND author = 'policy'") == [(0,)]


def dropping(folder: Path) -> None:
    """Questions of round 1 are dropped while it samples: by another process, as `drop` is."""
    run_dir, dropped = folder / "run", False

    def reached(name: str) -> None:
        nonlocal dropped
        if not dropped and name == "round 1: sample: after commit":
            dropped = True
            other = open_store(run_dir)
            drawn = [row[0] for row in other.rows("SELECT question FROM round_question WHERE round = 1")]
            drop_questions(other, drawn[:3], "while it samples")
            other.close()

    run_scripted(run_dir, scripted_config(folder), reached, Script())


def test_a_round_keeps_questions_dropped_while_it_samples(tmp_path: Path) -> None:
    for name in ("dropped", "whole"):
        (tmp_path / name).mkdir()
    run_forked(dropping, tmp_path / "dropped")
    run_forked(whole, tmp_path / "whole")
    of_round = """SELECT question, "index", text FROM sample WHERE round = 1 AND author = 'policy' ORDER BY 1, 2"""
    pairs = "SELECT chosen.text FROM pair JOIN sample AS chosen ON chosen.id = chosen WHERE pair.round = 1 ORDER BY 1"
    for sql in (of_round, pairs):
        assert rows(tmp_path / "dropped" / "run", sql) == rows(tmp_path / "whole" / "run", sql)
    store = open_store(tmp_path / "dropped" / "run")
    out = set(unusable_questions(store))
    assert len(out) == 3
    assert not out & {row[0] for row in store.rows("SELECT question FROM round_question WHERE round = 2")}
    store.close()


def whole(folder: Path) -> None:
    run_scripted(folder / "run", scripted_config(folder), script=Script())


def skipping(folder: Path) -> None:
    read = Script().read

    def with_long(held_out: int) -> Any:
        for n, each in enumerate(read(held_out)):
            yield replace(each, text=f"{each.text} {'word ' * 900}{each.answers[0]}") if n in (1, 13) else each

    run_scripted(folder / "run", scripted_config(folder, questions={"too_long": "skip"}), script=Script(read=with_long))


def test_a_run_with_skipped_questions_of_both_kinds_goes_through(tmp_path: Path) -> None:
    run_forked(skipping, tmp_path)
    run_dir = tmp_path / "run"
    marked = rows(run_dir, "SELECT id, split FROM question WHERE unusable LIKE 'too long: %' ORDER BY id")
    assert marked == [(2, "train"), (14, "test")]
    assert rows(run_dir, "SELECT count(*) FROM round WHERE phase = 'done'") == [(3,)]
    for table in ("round_question", "sample", "evaluation"):
        assert rows(run_dir, f"SELECT count(*) FROM {table} WHERE question IN (2, 14)") == [(0,)]
