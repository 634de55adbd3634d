"""Which questions rounds ask."""

import hashlib
import json
import math
import tempfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.config.load import parse_config
from loop.errors import InputError
from loop.questions.answer_shares import answer_shares, information
from loop.questions.order import choose_questions
from store import Store, open_store
from store.new_questions import NewQuestion, add_questions
from store.rounds import Policy, add_policy, start_round


def test_rounds_and_evaluations_use_separate_questions(scripted_run_dir: Path) -> None:
    asked = "SELECT DISTINCT split FROM round_question JOIN question ON question.id = question"
    evaluated = "SELECT DISTINCT question.split FROM evaluation JOIN question ON question.id = question"
    with closing(open_store(scripted_run_dir, read_only=True)) as store:
        assert [row[0] for row in store.rows(asked)] == ["train"]
        assert [row[0] for row in store.rows(evaluated)] == ["test"]


def sorted_by_rule(store: Store, seed: int, order: str, number: int) -> list[int]:
    """The order of the draw, spelled out: every question ranked and all of them sorted."""
    shares = answer_shares(store)
    times = {row[0]: row[1] for row in store.rows("SELECT question, count(*) FROM round_question GROUP BY 1")}

    def rank(row: Any) -> tuple[Any, ...]:
        draw = f"{seed}:{number}" if order == "difficult" else str(seed)
        digest = hashlib.sha256(f"{draw}:{row['unit'] or row['hash']}".encode()).digest()
        weight = information(json.loads(row["answers"]), shares) if order == "informative" else 1.0
        first = (0, 0) if order == "difficult" else (times.get(row["id"], 0), -row["batch"])
        uniform = (int.from_bytes(digest[:7]) + 1) / 2**56
        return *first, -math.log(uniform) / weight / (0.25 if order == "difficult" else 1.0), digest.hex(), row["id"]

    return [row["id"] for row in sorted(store.rows("SELECT * FROM question WHERE split = 'train'"), key=rank)]


@given(
    st.sampled_from(["fresh", "informative", "difficult"]),
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1, max_size=25),
    st.integers(0, 9),
    st.integers(0, 30),
)
def test_a_round_asks_the_first_of_the_drawn_order(
    order: str, drawn: list[tuple[str, bool, bool]], seed: int, wanted: int
) -> None:
    config = parse_config(
        {
            "run": {"seed": seed},
            "policy": {"model": "m"},
            "questions": {"source": "easy_vqa"},
            "sampling": {"order": order},
        },
        "test",
    )
    with tempfile.TemporaryDirectory() as folder, closing(open_store(Path(folder), create=True)) as store:
        for later in (False, True):
            add_questions(
                store,
                (
                    NewQuestion(f"{n}?", [answer], [], "train", "t", "exact", unit=f"u{n // 2}" if tied else None)
                    for n, (answer, tied, added) in enumerate(drawn)
                    if added == later
                ),
            )
        with store.transaction():
            add_policy(store, Policy(0, None, "base", "sha", "path", {}))
        start_round(store, 1, "done", 0, range(1, len(drawn), 3))
        context: Any = SimpleNamespace(store=store, config=config)
        assert choose_questions(context, 2, wanted) == sorted_by_rule(store, seed, order, 2)[:wanted]


def test_kinds_that_no_question_has_are_named(tmp_path: Path) -> None:
    tables = {"policy": {"model": "m"}, "questions": {"source": "easy_vqa"}, "cold_start": {"kinds": ["count", "map"]}}
    config = parse_config(tables, "test")
    with closing(open_store(tmp_path, create=True)) as store:
        add_questions(
            store,
            (
                NewQuestion(f"{kind} {n}?", ["1"], [], "train", "t", "exact", kind=kind)
                for n, kind in enumerate(("count", "count", "colour"))
            ),
        )
        context: Any = SimpleNamespace(store=store, config=config)
        with pytest.raises(InputError, match="kind 'map'"):
            choose_questions(context, 0, 9)
        config.cold_start.kinds.remove("map")
        assert sorted(choose_questions(context, 0, 9)) == [1, 2]
