"""The speed of the judges: `python -m benchmarks.judges`, on one core but for `math`.

Verdicts per second in batch form, extraction and guards included, on different chains of 400 characters.
Strings are timed by the processor time of this process, `math` and the start by the clock.
Medians of several runs. "32 a question": as in a round, 32 samples per question with four different
answers among them; no question comes twice. "all different": no answer and no key comes twice, as far as
the rule has that many.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from judges import Output, find_judge, give_verdicts

SAMPLES = 32
PROJECT = Path(__file__).resolve().parent.parent
CHAIN = (
    "The image shows a {0} circle on a pale background next to several other small things which we look at in turn. "
    "The question asks for the color of the shape in the middle of the picture, number {0}. It is plain to see that "
    "the shape is neither blue nor green, and that the shade of it is close to what people call red. So what is asked "
    "for must be the one that was named first in this text.\n### Answer: {1}"
)
STREETS = ("Bahnhofstrasse", "Rue de la Paix", "Market Street", "Unter den Linden", "Oxford Street")

Answers = Callable[[int], tuple[str, list[str]]]
"""A number -> an answer and the accepted ones."""

RULES: dict[str, Answers] = {
    "exact": lambda n: (f"The word {n}.", [f"word {n - n % 2}"]),
    "choice": lambda n: (("(B)", "B) cat", "cat", "C.")[n % 4], ["B"]),
    "numeric": lambda n: (f"{n:,}", [str(n - n % 2)]),
    "chartqa": lambda n: (f"{n}.5", [str(n + n % 2)]),
    "anls": lambda n: (f"{STREETS[n % 5]} {n}", [f"{STREETS[n % 5]} {n - n % 2}"]),
    "vqa": lambda n: (f"{n} dogs", [f"{n - n % 2} dogs"] * 7 + ["two cats"] * 3),
    "textvqa": lambda n: (f"{n} dogs", [f"{n - n % 2} dogs"] * 7 + ["two cats"] * 3),
    "list": lambda n: (f"red, {n} and blue", [f"blue, red, {n - n % 2}"]),
    "regex": lambda n: (f"{n}", [r"\d*[02468]"]),
}


def math_answers(n: int) -> tuple[str, list[str]]:
    """Ten kinds in turn, mostly numbers as in school problems; none is the accepted answer as it stands."""
    kinds = (
        *((f"{n}", f"{n}.0"), (f"{n}", f"{n + 1}"), (f"{n:,}", f"{n}.00"), (f"{n}.5", f"{2 * n + 1}/2")),
        *((f"{n}%", f"{n / 100}"), (f"{n}/2", f"{n / 2}"), (rf"$\frac{{{n}}}{{2}}$", f"{n / 2}")),
        *((rf"\frac{{{n}}}{{4}}", f"{n / 4}"), (rf"{n}\sqrt{{2}}", rf"\sqrt{{{2 * n * n}}}"), (f"x={n}", f"{n}.0")),
    )
    answer, accepted = kinds[n % len(kinds)]
    return answer, [accepted]


def main() -> None:
    """Command line; one JSON object a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--math-rows", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for spec, answers in RULES.items():
        _report(f"{spec}, 32 a question", _rates(spec, answers, options.rows, options.repeats, SAMPLES))
        _report(f"{spec}, all different", _rates(spec, answers, options.rows, options.repeats, 1))
    _report(
        "math (2 workers), 32 a question", _rates("math", math_answers, 8 * options.math_rows, options.repeats, SAMPLES)
    )
    _report("math (2 workers), all different", _rates("math", math_answers, options.math_rows, options.repeats, 1))
    _report("start of `judge`, seconds", [_start() for _ in range(options.repeats)], digits=3)


def _rates(spec: str, answers: Answers, rows: int, repeats: int, samples: int) -> list[float]:
    """Verdicts a second of each repeat; every repeat has chains and numbers of its own."""
    judge = find_judge(spec)
    clock = time.perf_counter if judge.rule.score_many else time.process_time
    rates = []
    for turn in range(repeats + 1):
        outputs = []
        for n in range(rows * turn, rows * (turn + 1)):
            question = n // samples
            accepted = answers(question)[1]
            answer = answers(question + n % min(4, samples))[0]
            outputs.append(
                Output(CHAIN.format(n, answer), accepted, ("dog", "cat") if spec == "choice" else (), "stop", True)
            )
        started = clock()
        verdicts = give_verdicts(judge, outputs)
        seconds = clock() - started
        said = {verdict.outcome for verdict in verdicts}
        assert "correct" in said and said <= {"correct", "wrong"}, (spec, said)  # noqa: PT018
        if turn:
            rates.append(rows / seconds)
    return rates


def _start() -> float:
    started = time.perf_counter()
    command = [sys.executable, str(PROJECT / "run_loop.py"), "judge", "--judge", "exact"]
    line = json.dumps({"prediction": "a", "answer": "a"})
    subprocess.run(command, input=line, text=True, capture_output=True, check=True)
    return time.perf_counter() - started


def _report(what: str, figures: list[float], digits: int = 0) -> None:
    rounded = [round(figure, digits) for figure in figures]
    print(json.dumps({"what": what, "median": round(statistics.median(figures), digits), "runs": rounded}), flush=True)


if __name__ == "__main__":
    main()
