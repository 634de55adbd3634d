"""Judge `math`: math-verify's verdicts, in workers that can be killed."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from judges import JudgeError, Output, find_judge, give_verdicts
from judges.math import math, math_many, readings
from judges.workers import Pool, shared_pool
from tests.support.forked import Forked, until

TOWER = "$9^{9^{9^{9}}}$"
"""math-verify evaluates it, and never comes back."""


def reason(answer: str, accepted: str, timeout: float = 5.0) -> str:
    (score,) = math_many([(answer, [accepted])], timeout=timeout)
    assert isinstance(score, JudgeError)
    return score.reason


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("1/2", "0.5", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"$\frac{2}{4}$", "1/2", True),
        (r"\boxed{\frac12}", "0.5", True),
        ("1,000", "1000", True),
        ("50%", "0.5", True),
        ("50%", "50", True),
        ("x=5", "5", True),
        ("5", "x=5", True),
        ("$x=5$", "$y=5$", False),
        ("2x+1", "1+2x", True),
        ("2x+1", "2", False),
        ("(x+1)^2", "x^2+2x+1", True),
        (r"3\sqrt{2}", r"\sqrt{18}", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        ("(1,2)", "(2,1)", False),
        ("[1,2)", "[1,2)", True),
        ("[1,2)", "[1,2]", False),
        ("12 apples", "12", True),
        (r"5\text{ cm}", "5", True),
        (r"90^\circ", "90", True),
        ("-0", "0", True),
        ("0.333333", "1/3", True),
        ("0.33", "1/3", False),
        (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}", True),
        ("the total is 12", "12", True),
    ],
)
def test_math_says_what_math_verify_says(answer: str, accepted: str, right: bool) -> None:
    assert math(answer, [accepted]) == right


PAIRS = [
    (gold, answer)
    for gold in ("$\\frac{1}{2}$", "$0.5$", "$x=3$", "$3$", "$\\{1,2\\}$", "$x^2-1$", "$50\\%$", "$(0,1)$", "$\\pi$")
    for answer in (
        "0.5",
        "$\\frac{1}{2}$",
        "$3$",
        "$y=3$",
        "$\\{2,1\\}$",
        "$(x-1)(x+1)$",
        "$\\frac{50}{100}$",
        "$3.1416$",
    )
]


@pytest.mark.heavy
def test_what_math_verify_calls_equal_is_equal_here() -> None:
    """Beside the package itself, called as its documentation shows, on the main thread."""
    from math_verify import parse, verify

    theirs = [verify(parse(gold), parse(answer)) for gold, answer in PAIRS]
    ours = math_many([(answer, [gold]) for gold, answer in PAIRS])
    assert ours == [float(each) for each in theirs]
    assert 5 < sum(theirs) < len(PAIRS) - 5


def test_text_without_delimiters_is_latex_unless_number_or_prose() -> None:
    assert readings("$x$") == ["$x$"]
    assert readings("x+1") == ["$x+1$", "x+1"]
    assert readings("1,000.5") == ["1,000.5", "$1,000.5$"]
    assert readings("there are 5") == ["there are 5"]


def test_an_accepted_answer_written_back_is_right_whatever_it_is() -> None:
    for answer in ("I do not know", TOWER, "1/0", "", r"\frac{"):
        assert math(f" {answer} ", ["7", answer]) == 1.0


def test_failures_are_told_apart_from_wrong_answers() -> None:
    assert reason("I do not know", "3") == "math_unparsed"
    assert reason("3", "I do not know") == "math_key_unparsed"
    assert reason("1" * 3000, "3") == "math_too_long"
    with pytest.raises(JudgeError, match="math_unparsed"):
        math("", ["3"])


def test_a_megabyte_is_answered_at_once() -> None:
    started = time.monotonic()
    for piece in ("1+", "$", "\\frac{", "9^", "x "):
        with pytest.raises(JudgeError, match="math_too_long"):
            math(piece * (1_000_000 // len(piece)), ["1"])
    assert time.monotonic() - started < 5


def test_a_hanging_input_costs_its_time_out_and_nothing_else() -> None:
    math("2/2", ["1"])  # workers are up
    items = [(TOWER, ["3"])] + [(str(n), [f"{2 * n}/2"]) for n in range(1, 20)]
    started = time.monotonic()
    scores = math_many(items, timeout=1.0)
    assert time.monotonic() - started < 30
    assert isinstance(scores[0], JudgeError)
    assert scores[0].reason == "math_timeout"
    assert scores[1:] == [1.0] * 19


def children() -> dict[int, str]:
    """Child processes of this one with their state ('Z' is a zombie)."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found[int(path.parent.name)] = fields[0]
    return found


@pytest.mark.heavy
def test_killed_workers_are_replaced_and_no_zombie_stays() -> None:
    math("2/2", ["1"])
    before = shared_pool().pids()
    others = children().keys() - set(before)
    assert reason(TOWER, "3", timeout=0.5) == "math_timeout"
    assert math_many([("2/2", ["1"]), ("4/2", ["2"])]) == [1.0, 1.0]
    for pid in shared_pool().pids():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    assert math_many([("2/2", ["1"]), ("4/2", ["2"])]) == [1.0, 1.0]
    assert set(before) != set(shared_pool().pids())
    assert "Z" not in children().values()
    assert len(children().keys() - others) <= shared_pool().size


def test_it_works_off_the_main_thread_and_from_many_at_once() -> None:
    scores: list[float] = []
    threads = [threading.Thread(target=lambda n=n: scores.append(math(f"{2 * n}/2", [str(n)]))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores == [1.0] * 6


def test_a_pool_that_is_closed_leaves_no_process() -> None:
    pool = Pool(2)
    assert pool.ask([("1", ["1"]), ("2", ["2"])], 5.0) == ["equal", "equal"]
    pids = pool.pids()
    assert pids
    pool.close()
    assert not set(pids) & children().keys()


def print_workers() -> None:
    math("2/2", ["1"])
    print(*shared_pool().pids(), flush=True)
    time.sleep(60)


@pytest.mark.heavy
def test_workers_die_with_a_parent_that_was_killed() -> None:
    parent = Forked(print_workers)
    until(lambda: parent.stdout().endswith("\n"), parent)
    pids = [int(pid) for pid in parent.stdout().split()]
    parent.kill_alone()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_batch_of_verdicts_keeps_order_and_outcomes() -> None:
    outputs = [
        Output("### Answer: 1/2", ["0.5"], needs_marker=True),
        Output("no marker", ["0.5"], needs_marker=True),
        Output("### Answer: 0.4", ["0.5"], needs_marker=True),
        Output("### Answer: 0.5", ["0.5"], finish_reason="length", needs_marker=True),
        Output("### Answer: I cannot say", ["0.5"], needs_marker=True),
    ]
    verdicts = give_verdicts(find_judge("math"), outputs)
    assert [verdict.outcome for verdict in verdicts] == ["correct", "unparsable", "wrong", "truncated", "judge_error"]
    assert "math_unparsed" in verdicts[4].flags
