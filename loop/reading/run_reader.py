"""`open_run`: a run's records as pandas frames, for Python and notebooks; usable while the run works."""

from __future__ import annotations

import json
import operator
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.config.prompt_styles import STYLES
from loop.errors import InputError
from loop.reading.accuracy_log import accuracy, log_rows, reported_split
from loop.reading.frames import EVALUATIONS, PAIRS, POLICIES, QUESTIONS, ROUNDS, SAMPLES, STEPS, frame
from store import Store, open_store
from store.sample_lookup import conditions, find_samples

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

Numbers = int | Collection[int] | None
"""A number or several; None: all."""
Names = str | Collection[str] | None
"""A name or several; None: all."""

IMAGES = """(SELECT json_group_array(image) FROM (SELECT image FROM question_image
    WHERE question_image.question = question.id ORDER BY position)) AS images"""
STEP = """
SELECT training.round, training.candidate AS policy, step, training_step.method, training_step.loss, learning_rate,
       margin, accuracy
FROM training_step JOIN training ON training.id = training_step.training"""


def open_run(run_dir: str | Path) -> Run:
    """The run in a directory. Raises StoreError if there is none, or if it has another version."""
    run = Run(Path(run_dir))
    with run._reading():
        return run


class Run:
    """A run, read only. Each call reads the store's present content.

    Columns, types and units of the frames: `docs/notebook.md`. A filter takes one value or several, and rows
    are in the order in which they were recorded, at most `limit` of them. Archived rounds are included.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def __repr__(self) -> str:
        with self._reading() as store:
            rounds = store.value("SELECT count(*) FROM round WHERE phase = 'done' AND number > 0")
            samples = store.value("SELECT coalesce(sum(samples), 0) FROM round_figures")
        return f"<Run {str(self.run_dir)!r}: {rounds} finished rounds, {samples} samples>"

    @property
    def configuration(self) -> dict[str, Any]:
        """The recorded configuration, one dictionary per table."""
        with self._reading() as store:
            configuration: dict[str, Any] = json.loads(store.value("SELECT configuration FROM run") or "{}")
            return configuration

    def rounds(self) -> pd.DataFrame:
        """The accuracy log: one row per round, round 0 being the cold start."""
        with self._reading() as store, store.snapshot():
            times = {row["number"]: row for row in store.rows("SELECT number, started, finished FROM round")}
            rows = [
                {
                    **dict.fromkeys(ROUNDS),
                    **row,
                    **_held_out(row["accuracy"]),
                    **{f"{phase}_seconds": seconds for phase, seconds in row["seconds"].items()},
                    "seconds": sum(row["seconds"].values()),
                    "started": times[row["round"]]["started"],
                    "finished": times[row["round"]]["finished"],
                }
                for row in log_rows(store)
            ]
        return frame(rows, ROUNDS)

    def samples(
        self,
        *,
        round: Numbers = None,
        outcome: Names = None,
        question: Numbers = None,
        policy: Numbers = None,
        style: Names = None,
        author: Names = None,
        split: Names = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Chains of thought with their verdicts."""
        wanted = _given_filters(
            {"round": round, "question": question, "policy": policy, "style": style, "author": author},
            outcome=outcome,
        )
        with self._reading() as store, store.snapshot():
            found = find_samples(store, wanted, _as_list(split) or (), _checked_limit(limit))
            return frame(({**row, "sample": row["id"]} for row in found), SAMPLES)

    def pairs(
        self,
        *,
        round: Numbers = None,
        question: Numbers = None,
        rule: Names = None,
        source: Names = None,
        style: Names = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Preference pairs with both texts and their authors."""
        wanted = _given_filters({"round": round, "question": question, "rule": rule, "source": source, "style": style})
        return self._select("SELECT * FROM pair_detail", "pair", wanted, limit, PAIRS)

    def questions(
        self,
        *,
        question: Numbers = None,
        split: Names = None,
        kind: Names = None,
        source: Names = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Questions with their accepted answers; `image` gives the images that a row names."""
        wanted = _given_filters({"id": question, "split": split, "kind": kind, "source": source})
        return self._select(f"SELECT id AS question, *, {IMAGES} FROM question", "id", wanted, limit, QUESTIONS)

    def evaluations(
        self,
        *,
        policy: Numbers = None,
        split: Names = None,
        style: Names = None,
        outcome: Names = None,
        question: Numbers = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Greedy answers to held-out questions."""
        wanted = _given_filters(
            {"policy": policy, "split": split, "style": style, "question": question}, outcome=outcome
        )
        return self._select("SELECT id AS evaluation, * FROM evaluation", "id", wanted, limit, EVALUATIONS)

    def policies(self) -> pd.DataFrame:
        """Every set of weights with its parent, accuracy and decision."""
        with self._reading() as store, store.snapshot():
            split = reported_split(store)
            rows = [
                {
                    **dict.fromkeys(POLICIES),
                    **dict(row),
                    **_held_out({style: accuracy(store, row["policy"], style, split) for style in STYLES}),
                }
                for row in store.rows("SELECT * FROM policy_lineage")
            ]
        return frame(rows, POLICIES)

    def training_steps(self, *, round: Numbers = None, limit: int | None = None) -> pd.DataFrame:
        """The trainer's figures at each step of each update."""
        wanted = _given_filters({"round": round})
        return self._select(f"SELECT * FROM ({STEP})", "policy, step", wanted, limit, STEPS)

    def image(self, sha256: str) -> Image:
        """An image by its hash, as the `images` of a question name it."""
        from store.questions import load_image

        with self._reading() as store:
            return load_image(store, sha256)

    def _select(
        self, sql: str, order: str, wanted: dict[str, list[Any]], limit: int | None, columns: Any
    ) -> pd.DataFrame:
        terms, values = conditions(wanted, {name: name for name in wanted})
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        most = _checked_limit(limit)
        with self._reading() as store:
            rows = store.stream(f"{sql} {where} ORDER BY {order} LIMIT ?", *values, -1 if most is None else most)
            return frame(rows, columns)

    @contextmanager
    def _reading(self) -> Iterator[Store]:
        with closing(open_store(self.run_dir, read_only=True)) as store:
            yield store


def _held_out(accuracies: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{style}_{name}": figures[name]
        for style, figures in accuracies.items()
        if figures
        for name in ("accuracy", "low", "high", "questions")
    }


def _given_filters(filters: dict[str, Any], outcome: Names = None) -> dict[str, list[Any]]:
    """The given filters as lists."""
    from judges.verdict import OUTCOMES

    lists = {name: _as_list(given) for name, given in {**filters, "outcome": outcome}.items()}
    wanted = {name: values for name, values in lists.items() if values is not None}
    if unknown := sorted(set(wanted.get("outcome", ())) - set(OUTCOMES)):
        raise InputError(f"outcome = {unknown[0]!r} is unknown; known: {', '.join(OUTCOMES)}")
    return wanted


def _as_list(given: Any) -> list[Any] | None:
    """Plain integers and texts for SQLite, which does not take numpy's integers."""
    if given is None:
        return None
    several = [given] if isinstance(given, str) or not isinstance(given, Collection) else given
    return [each if isinstance(each, str) else operator.index(each) for each in several]


def _checked_limit(limit: int | None) -> int | None:
    if limit is not None and limit < 0:
        raise InputError(f"limit = {limit} is below zero; leave it out for all rows")
    return limit
