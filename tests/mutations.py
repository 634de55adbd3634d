"""Breaks one line at a time in a copy of the code and runs the tests that must notice: `python -m tests.mutations`.

Prints a table; ends with 1 if a broken line went unnoticed. A line that has changed since is an error: mend the table.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", "site", ".*_cache", "__pycache__", "runs", "shared", "build", "*.egg-info"
)
PROCESSES = 2
TESTS_FAILED = 1
"""The exit code of pytest."""


class Mutation(NamedTuple):
    """A line of the code (`text` occurs once in `file`), what it becomes, and the tests that must fail then."""

    breaks: str
    file: str
    text: str
    replacement: str
    tests: str


MUTATIONS = (
    Mutation(
        "the gate's decision",
        "loop/evaluation/gate_rules.py",
        "comparison.p_value < level and comparison.lost > comparison.gained",
        "comparison.p_value < level and comparison.lost < comparison.gained",
        "tests/loop/phases/test_gate_and_rollback.py",
    ),
    Mutation(
        "the guard of other styles",
        "loop/evaluation/gate_rules.py",
        "accepted and not_worse(comparison, settings.level)",
        "accepted",
        "tests/loop/phases/test_gate_and_rollback.py",
    ),
    Mutation(
        "the roll back to the weights before",
        "loop/phases/gate_and_rollback.py",
        '    if round_.decision == "rejected":\n        serve_policy(ctx, round_.serving_policy, round_.number)\n',
        "",
        "tests/loop/phases/test_gate_and_rollback.py",
    ),
    Mutation(
        "the floor of guarded styles",
        "loop/evaluation/gate_rules.py",
        "        if not not_worse(comparison, settings.level):\n            accepted = False\n",
        "        if not not_worse(comparison, settings.level):\n",
        "tests/loop/phases/test_gate_and_rollback.py",
    ),
    Mutation(
        "what counter-pairs prefer",
        "loop/training/balance.py",
        "lacking = {(b, a): round(weight - weights[b, a])",
        "lacking = {(a, b): round(weight - weights[b, a])",
        "tests/loop/training/test_balance.py",
    ),
    Mutation(
        "what a pair rule rejects",
        "loop/training/pair_rules.py",
        'if s.outcome == "wrong"]',
        'if s.outcome != "correct"]',
        "tests/loop/training/test_pairs.py",
    ),
    Mutation(
        "the band of pass rates",
        "loop/training/choose_pairs.py",
        "not low <= own.pass_rate <= high",
        "not low <= own.pass_rate",
        "tests/loop/training/test_pairs.py",
    ),
    Mutation(
        "what a resumed round still lacks",
        "store/samples.py",
        "return {(row[0], row[1]) for row in store.stream(PRESENT, round_number, policy, style)}",
        "return set()",
        "tests/loop/test_crash_points.py",
    ),
    Mutation(
        "the check of the weights' sha256",
        "loop/swap_and_prove.py",
        "if loaded != sha256:",
        "if False:",
        "tests/loop/test_faults.py",
    ),
    Mutation(
        "the probe's tolerance",
        "loop/swap_and_prove.py",
        "if not difference <= ctx.config.engine.probe_tolerance:",
        "if False:",
        "tests/loop/test_faults.py",
    ),
    Mutation(
        "the refusal of a newer store",
        "store/database.py",
        "if unknown := sorted(applied - known):",
        "if unknown := sorted(known - known):",
        "tests/store/test_store.py",
    ),
    Mutation(
        "all or nothing of a transaction",
        "store/database.py",
        "                self.connection.rollback()\n                raise\n",
        "                self.connection.commit()\n                raise\n",
        "tests/store/test_store.py",
    ),
    Mutation(
        "one process a run",
        "store/lock.py",
        "    except BlockingIOError:\n        return False",
        "    except BlockingIOError:\n        return True",
        "tests/store/test_store.py",
    ),
    Mutation(
        "the teacher's budget",
        "policies/teacher/budget.py",
        "self.reserved + self.units(usd) <= self.left + 1e-9",
        "self.units(usd) <= self.left + 1e-9",
        "tests/policies/teacher/test_limits.py",
    ),
    Mutation(
        "the folder of a file's images",
        "loop/questions/sources/jsonl.py",
        "if not path.is_relative_to(root):",
        "if False:",
        "tests/loop/questions/test_sources.py",
    ),
    Mutation(
        "the escaping of HTML",
        "loop/pages/escape.py",
        'return Markup("").join([*parts, escape(text[last:])])',
        'return Markup("").join([*parts, Markup(text[last:])])',
        "tests/loop/pages/test_pages.py",
    ),
    Mutation(
        "the split of held-out questions",
        "loop/questions/splits.py",
        "if fraction < config.held_out_share:",
        "if fraction > config.held_out_share:",
        "tests/loop/questions/test_sources.py",
    ),
    Mutation(
        "training on training questions only",
        "store/questions.py",
        "split = 'train' AND suspect IS NULL AND unusable IS NULL",
        "suspect IS NULL AND unusable IS NULL",
        "tests/loop/questions/test_order.py",
    ),
    Mutation(
        "weights that are still needed",
        "loop/retention.py",
        "serving | parents_of_serving | best | {cold_start_policy(store)}",
        "serving | parents_of_serving | {cold_start_policy(store)}",
        "tests/loop/commands/views/test_check.py",
    ),
    Mutation(
        "the lower rate after a rejection",
        "loop/training/learning_rate.py",
        '** list(since_accepted).count("rejected")',
        '** list(since_accepted).count("accepted")',
        "tests/loop/phases/test_gate_and_rollback.py",
    ),
    Mutation(
        "warm-up from the first step",
        "policies/learner/base.py",
        "(step + 1) / warmup if step < warmup",
        "step / warmup if step < warmup",
        "tests/loop/training/test_warm_up.py",
    ),
    Mutation(
        "an update that changes nothing",
        "loop/phases/update.py",
        "if policy.sha256 == get_policy(ctx.store, round_.serving_policy).sha256:",
        "if False:",
        "tests/loop/training/test_warm_up.py",
    ),
    Mutation(
        "redirects of the teacher",
        "policies/teacher/client.py",
        "            follow_redirects=False,\n            timeout=None,",
        "            follow_redirects=True,\n            timeout=None,",
        "tests/policies/test_redirects.py",
    ),
    Mutation(
        "a store that is gone",
        "store/database.py",
        "    if left:\n",
        "    if False:\n",
        "tests/store/test_lost_store.py",
    ),
    Mutation(
        "rows that share an image",
        "loop/questions/splits.py",
        """*(("image", digest) for digest in images)""",
        "",
        "tests/loop/questions/test_splits.py",
    ),
    Mutation(
        "styles that nobody trains",
        "loop/evaluation/reported_styles.py",
        "if style in wanted",
        "if wanted",
        "tests/loop/evaluation/test_reported_styles.py",
    ),
)


def copy_project(folder: Path) -> Path:
    """The code and its tests, without what is made from them."""
    return Path(shutil.copytree(PROJECT, folder, ignore=NOT_COPIED))


def failed_tests(project: Path, *tests: str) -> bool:
    """Whether a test fails. Raises RuntimeError where the tests could not be run at all."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode not in (0, TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == TESTS_FAILED


def is_noticed(mutation: Mutation) -> bool:
    """Whether a test fails once the line is broken."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        project = copy_project(Path(folder) / "project")
        file = project / mutation.file
        source = file.read_text()
        if source.count(mutation.text) != 1:
            raise RuntimeError(f"{mutation.file} has {source.count(mutation.text)} times: {mutation.text}")
        file.write_text(source.replace(mutation.text, mutation.replacement))
        return failed_tests(project, mutation.tests)


def main() -> None:
    """Run the tests on the code as it is, which must pass, then every mutation."""
    started = time.monotonic()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        if failed_tests(copy_project(Path(folder) / "project"), *sorted({each.tests for each in MUTATIONS})):
            sys.exit("a test fails before anything is broken")
    with ThreadPoolExecutor(PROCESSES) as pool:
        noticed = list(pool.map(is_noticed, MUTATIONS))
    print("| broken | in | tests | noticed |\n| --- | --- | --- | --- |")
    for mutation, found in zip(MUTATIONS, noticed, strict=True):
        print(f"| {mutation.breaks} | {mutation.file} | {mutation.tests} | {'yes' if found else 'NO'} |")
    print(f"\n{sum(noticed)} of {len(noticed)} noticed, in {time.monotonic() - started:.0f} s")
    sys.exit(not all(noticed))


if __name__ == "__main__":
    main()
