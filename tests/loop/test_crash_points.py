"""Exactly once: a run that is killed at any commit boundary ends as one that nothing killed."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.forked import Forked
from tests.support.killed_runs import kill_everywhere

PHASES = {
    *("round 0: distil", "round 0: update", "round 0: swap", "round 0: evaluate", "round 0: gate"),
    *("round 1: sample", "round 1: judge", "round 1: fallback", "round 1: pair", "round 1: update", "round 1: swap"),
    *("round 1: evaluate", "round 1: gate", "round 2: sample", "round 2: gate", "before the first round"),
}
IN_FLIGHT = 4
"""Twice the recipe's teacher.concurrency: requests in flight at a kill, and answers that were not committed yet."""
MEMORY = Path("/dev/shm")  # noqa: S108 (a folder of its own is made in it; SIGKILL needs no disk)


def killed_runs(which: str, kind: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        done = Forked(kill_everywhere, Path(folder), which, kind).wait(1_700)
        assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def hold(results: list[dict[str, Any]], least: int) -> None:
    assert [result for result in results if result["differs"]] == []
    # Answers of the teacher that arrive together are one commit: a run may have a few less than the one counted.
    assert sum(result["died"] for result in results) >= least
    assert [result for result in results if result["paid_twice"] > IN_FLIGHT] == []
    assert {result["point"].rpartition(":")[0] for result in results} >= PHASES - {"before the first round"}
    for phase in PHASES:
        points = {result["point"] for result in results}
        assert {f"{phase}: before commit", f"{phase}: after commit"} <= points


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["answers", "judge", "judged"])
def test_a_run_killed_at_each_kind_of_commit_ends_the_same(kind: str) -> None:
    results = killed_runs("once", kind)
    hold(results, 50 if kind == "answers" else 40)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("kind", ["answers", "judged"])
def test_a_run_killed_at_every_commit_ends_the_same(kind: str) -> None:
    results = killed_runs("all", kind)
    hold(results, 190 if kind == "answers" else 100)
