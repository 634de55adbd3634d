"""A scripted run that is killed at every crash point, one process each, and finished by another process."""

import gc
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from loop.config.schema import Config
from tests.support.scripted_run import (
    Script,
    content,
    in_process,
    preferences,
    requests_paid,
    run_scripted,
    scripted_config,
    scripted_encoder,
    start_process,
)

SHRINKING = {"rule": "sequential", "first_look": 3, "shrink": [0.5, 0.25]}
"""The gate of these runs: round 1 is rejected with all its shrunk candidates, round 2's second one is accepted."""


def skill_of(content: str) -> float:
    """Good are the base model, the cold start, and what lies a quarter of the way from there to a bad candidate."""
    good = content == "base" or content.startswith(("trained from base", "0.25 of the way from (trained from base"))
    return 1.0 if good else 0.2


@dataclass(frozen=True)
class Kind:
    """A kind of run to kill: its script, and the tables of its configuration by where its judge run lies."""

    script: Script
    tables: Callable[[Path], dict[str, dict[str, Any]]]


JUDGE_TABLES: dict[str, dict[str, Any]] = {
    "prompts": {"cot": "{question}\nReason first, then give <answer>1</answer> or <answer>2</answer>."},
    "pairs": {"per_question": 0},
    "fallback": {"questions": 0},
    "rft": {"per_question": 1, "direct_items": 2},
    "grpo": {"groups": "mixed"},
    "stages": {"rounds": ["rft", "grpo"], "questions": [8, 4], "samples": [2, 6]},
}
KINDS = {
    "answers": Kind(Script(skill_of=skill_of), lambda judge: {"gate": SHRINKING}),
    "judge": Kind(Script(skills=(0.7,), read=preferences), lambda judge: JUDGE_TABLES),
    "judged": Kind(Script(skills=(0.7,)), lambda judge: {"pairs": {"rule": "judged", "judge_run": str(judge)}}),
}
"""Questions with answers; preferences, on which a judge is trained by SFT and GRPO; pairs by that judge."""


def kill_at(run_dir: Path, config: Config, script: Script, point: int) -> None:
    """Run in this process, which dies at the n-th crash point."""
    left = point

    def reached(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    run_scripted(run_dir, config, reached, script)


def kill_everywhere(folder: Path, which: str, kind: str) -> None:
    """Kill a run at every crash point, or (`once`) where a name comes for the first time, and finish it.

    Prints a JSON object a point: its name, whether the process died there, and in which tables the finished store
    differs from that of a run that nothing killed.
    """
    scripted_encoder()  # before any fork: it takes seconds
    script, judge = KINDS[kind].script, folder / "judge"
    config = scripted_config(folder, **KINDS[kind].tables(judge))
    if kind == "judged":
        of_judge = KINDS["judge"]
        run_scripted(judge, scripted_config(folder, **of_judge.tables(judge)), script=of_judge.script)
    names: list[str] = []
    run_scripted(folder / "unbroken", config, names.append, script)
    expected = content(folder / "unbroken")
    # Collections in the processes to come need not look at what is here already.
    assert threading.active_count() == 1
    gc.freeze()

    def case(point: int) -> None:
        run_dir = folder / f"killed-{point}"
        died = in_process(lambda: kill_at(run_dir, config, script, point))
        assert in_process(lambda: run_scripted(run_dir, config, script=script)) == 0
        found = content(run_dir)
        result = {
            "point": names[point - 1],
            "died": died == signal.SIGKILL,
            "differs": [name for name in expected if expected[name] != found[name]],
            # Beyond what an unbroken run pays: those that were in flight at the kill.
            "paid_twice": requests_paid(run_dir) - requests_paid(folder / "unbroken"),
        }
        os.write(sys.stdout.fileno(), json.dumps(result).encode() + b"\n")
        shutil.rmtree(run_dir)

    running = 0
    for point in range(1, len(names) + 1):
        if which == "once" and names[point - 1] in names[: point - 1]:
            continue
        if running == os.cpu_count():
            os.wait()
            running -= 1
        start_process(partial(case, point))
        running += 1
    while running:
        os.wait()
        running -= 1
