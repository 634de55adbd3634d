"""Fuzzing the judges: `python -m benchmarks.fuzz_judges --seconds 300`.

Texts are built from parts of answers and markers. It checks that no text makes a judge raise, that scores are
in [0, 1], that outcomes and flags are known, that a batch gives the same as single calls, that an accepted answer as
output is right, that symmetric rules are symmetric, and that no text takes long.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence

from judges import FLAGS, OUTCOMES, Judge, Output, find_judge, give_verdict, give_verdicts

ATOMS = (
    *("### Answer:", "Answer", "answer", ":", "The answer is", "\\boxed", "{", "}", "<answer>", "</answer>", "</s>"),
    *(
        "(B)",
        "B.",
        "A",
        "b",
        "option",
        "a",
        "the",
        "and",
        "or",
        "not",
        "yes",
        "no",
        "cat",
        "dog",
        "1",
        "0",
        "12",
        "007",
    ),
    *(",", ".", "-", "−", "+", "/", "%", "$", "€", "½", "²", "１", "٣", "e", "E", "x10^", "million", "twenty", "half"),
    *(" ", "\n", "\t", "\u00a0", "\u200b", "\u202e", "*", "**", "`", '"', "'", "’", "'s", "dont", "ß", "İ", "ı", "ſ"),
    *(
        "\x00",
        "\ud800",
        "😀",
        "é",
        "e\u0301",
        "ﬁ",
        "K",
        "inf",
        "nan",
        "1_0",
        "0x1",
        "1e999",
        "\\frac{1}{2}",
        "\\\\",
        "#",
    ),
)
RULES = (
    *("exact", "exact(synonyms=true)", "choice", "numeric", "numeric(relative=0.05,absolute=0.1)", "chartqa", "anls"),
    *("anls(threshold=0)", "vqa", "textvqa", "list", "regex(pattern='(a|b|1)*')", 'exact(markers=["hash","boxed"])'),
)
WRITTEN_BACK = ("exact", "choice", "numeric", "anls", "list")
SLOW_S = 0.25


def main() -> None:
    """Command line; stops at the first finding with the text that shows it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, end, rounds = random.Random(options.seed), time.monotonic() + options.seconds, 0
    judges = [find_judge(spec) for spec in RULES]
    while time.monotonic() < end:
        fuzz_once(rng, judges)
        rounds += 1
    print(f"{rounds} rounds of {len(judges)} judges, seed {options.seed}: nothing found")


def fuzz_once(rng: random.Random, judges: Sequence[Judge]) -> None:
    """Judge one random output and key with every judge."""
    text, answers, choices = _text(rng, 40), [_text(rng, 6) for _ in range(rng.randint(1, 4))], _choices(rng)
    if rng.random() < 0.5:
        text += rng.choice(("\n### Answer: ", "\\boxed{", "<answer>", "The answer is ")) + rng.choice(answers) + "}"
    output = Output(text, answers, choices, rng.choice(("stop", "length")), rng.random() < 0.5)
    for judge in judges:
        case = f"{judge.name} {output!r}"
        started = time.process_time()
        verdict = give_verdict(
            judge,
            text,
            answers,
            finish_reason=output.finish_reason,
            needs_marker=output.needs_marker,
            choices=choices,
        )
        _hold(time.process_time() - started < SLOW_S, "slow", case)
        _hold(verdict.outcome in OUTCOMES and 0.0 <= verdict.score <= 1.0, "range", case)
        _hold(set(verdict.flags) <= {*FLAGS, "regex_timeout"}, "flags", case)
        _hold(give_verdicts(judge, [output]) == [verdict], "batch", case)
        if judge.name in WRITTEN_BACK:
            for answer in answers:
                _hold(judge.score(answer, answers, choices) >= judge.correct_from, "written back", f"{answer!r} {case}")
            left, right = answers[0], answers[-1]
            _hold(judge.score(left, [right], choices) == judge.score(right, [left], choices), "symmetry", case)


def _text(rng: random.Random, most: int) -> str:
    pick: Callable[[], str] = (lambda: rng.choice(ATOMS)) if rng.random() < 0.8 else lambda: chr(rng.randrange(0x3000))
    return "".join(pick() + rng.choice(("", " ")) for _ in range(rng.randint(0, most))) * rng.choice((1, 1, 1, 2, 30))


def _choices(rng: random.Random) -> list[str]:
    return [_text(rng, 3) for _ in range(rng.choice((0, 0, 2, 4)))]


def _hold(condition: bool, what: str, case: str) -> None:
    if not condition:
        raise AssertionError(f"{what}: {case}")


if __name__ == "__main__":
    main()
