"""The rules of published benchmarks against lmms-eval's own code, run in a process of its own."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.published import RULES, score_output
from judges.published.latex_value import latex_value
from judges.published.option_letter import option_letter
from loop.config.known_datasets import KNOWN
from loop.evaluation.benchmark_set import TEXTS
from loop.questions.columns import ColumnRules
from tests.support.benchmark_sets import BENCHMARK_ROWS
from tests.support.command_line import PROJECT

LMMS_EVAL = Path(os.environ.get("LMMS_EVAL", PROJECT / ".venv" / ".lmms_eval"))
"""Where `make lmms_eval` puts the packages of requirements/lmms_eval.txt."""

needs_lmms_eval = pytest.mark.skipif(
    not (LMMS_EVAL / "lmms_eval").is_dir() and not os.environ.get("CI"), reason="'make lmms_eval' was not run"
)

LETTERS = ("A", "B", "C", "D", "a", "b", "d", "E")
LETTER_FORMS = (
    *("{}", "({})", "{}.", " {}. yes", "{}:", "{})", "The answer is {}", "the best option is {}.", "**{}**", "'{}'."),
    *("Answer: {}", "Option {} because A is not", "B or {}", "I choose {}!", "({}) a dog", "{}\nbecause", "it is {}"),
    *(
        "选{}",
        "정답은 {}",
        "{}\n",
        "A cat, so {}",
        "\t{}.",
        "{}..",
        "Both A and {}",
        "no letter here",
        "",
        "İ the answer is {}",
    ),
)
NUMBERS = (
    "14",
    "13.4",
    "50%",
    "0.5",
    "50",
    "2019",
    "2020",
    "1,000",
    "0",
    "0.0",
    "north america",
    "North America",
    "nan",
    "1e3",
    "１４",
    "$5",
)
TEXTS_READ = (
    "0.28",
    "ucsd",
    "University of  California San Diego",
    "january 8, 1999",
    "January 8, 199",
    "Pinterest",
    "68 %",
    "x",
    "",
    " pinterest ",
    "ß",
)
ANNOTATED = (
    "dakota digital",
    "Dakota Digital",
    "dakota",
    "two",
    "2",
    "Two.",
    "it's two",
    "the 2",
    "2:00",
    "none",
    "dakota  digital\n",
    "a, b",
)
GSM8K = (
    *(
        "The answer is 18.",
        "The answer is 18",
        "#### 18",
        "So 9 * 2 = $18 every day.",
        "18 eggs, not 20",
        "The answer is $70,000.",
    ),
    *(
        "It is 70000.",
        "The answer is 540. Check: 3.",
        "-5",
        "The answer is -5.",
        "no number",
        "540.00",
        "She has 18.0.",
        "",
        "$",
        "1.,",
    ),
)
MATH_VISION = (
    *(
        "C",
        "The answer is C.",
        "\\boxed{C}",
        "So (C).",
        "(C)\n",
        "\\boxed{12}",
        "the final answer is 12. It is",
        "\\boxed{12} or \\boxed{13}",
    ),
    *(
        "5",
        "\\boxed{5}",
        "The length is 5.",
        "\\boxed{B}",
        "\\boxed{\\frac12}",
        "\\boxed{\\frac{1}{2}}",
        "\\boxed{0.5}",
        "1/2",
        "\\boxed{0.50}",
    ),
    *(
        "\\boxed{(1, 2)}",
        "(1,2)",
        "(1.0,2.0)",
        "(1.001, 2)",
        "\\boxed{3.5}",
        "3.499",
        "\\boxed{\\frac{7}{2}}",
        "\\boxed{x = 3.5}",
        "3.5 \\text{ cm}",
    ),
    *(
        "",
        "\\boxed{}",
        "\\boxed{2^{3}+4}",
        "\\boxed{\\sqrt{144}}",
        "\\boxed{\\sqrt144}",
        "\\boxed{2\\cdot6}",
        "\\boxed{12^\\circ}",
        "12 units",
        "B. 5",
        "(b)",
    ),
)
MATH_VISTA_READ = (
    ("1", "1.2", None),
    ("1", "It rose.\nAnswer: 1.2", "1.2"),
    ("1", "about 1.24 s", "1.24"),
    ("2", "145", None),
    ("2", "The correct answer is (C) 145.", "C"),
    ("2", "So it must be 145.", "145"),
    ("2", "(D)", "(D)"),
    ("2", "C", "C"),
    ("3", "9", None),
    ("3", "The sum of 4 and 5 is 9.", "9"),
    ("3", "They are 1,009 years apart.", "1009"),
    ("3", "no idea", "no idea"),
    ("4", "Between 2007 and 2008: [2007, 2008]", "[2007, 2008]"),
    ("4", "[2007, 2009]", "[2007, 2009]"),
    ("5", "No", None),
    ("5", "The answer is No.", "No"),
    ("5", "(A) Yes", "A"),
    ("6", "Luca needs $1.45.", "1.45"),
    ("6", "", ""),
)
"""(pid, output, what a person reads in it, as GPT-4o is asked to; None where lmms-eval asks nobody)"""
MATH_READ = (
    (0, r"so \boxed{\frac{5}{6}}", "1"),
    (0, r"\boxed{5/6}", "1"),
    (0, "Answer: 5/6", "1"),
    (0, r"\boxed{\frac{6}{5}}", "-1"),
    (0, r"\boxed{\dfrac56}", "1"),
    (0, r"first \boxed{1}, then \boxed{\frac{10}{12}}", "1"),
    (0, "the sum is larger", "-1"),
    (1, "Answer: 023", None),
    (1, r"\boxed{23}", None),
    (1, r"\boxed{24}", None),
    (1, r"\boxed{23.0}", "1"),
    (2, r"\boxed{(3, \frac{\pi}{2})}", "1"),
    (2, r"\boxed{\left(3,\pi/2\right)}", "1"),
    (2, r"\boxed{(3, \pi)}", "-1"),
    (2, r"\fbox{(3, \pi/2)}", "1"),
)
"""(row, output, what GPT-4o mini is to reply: the index of the accepted answer, or -1; None where nobody is asked)"""


BY_LETTER = ("ai2d", "mmstar", "scienceqa", "scienceqa_img")


def fixed_cases() -> list[dict[str, Any]]:
    outputs: dict[str, Any] = {
        **{name: [f.format(x) for f in LETTER_FORMS for x in LETTERS] for name in BY_LETTER},
        "chartqa": NUMBERS,
        **dict.fromkeys(("docvqa", "infovqa"), TEXTS_READ),
        "textvqa": ANNOTATED,
        "gsm8k": GSM8K,
        "mathvision": MATH_VISION,
    }
    cases = [
        {"benchmark": name, "row": row, "output": output}
        for name, given in outputs.items()
        for row in BENCHMARK_ROWS[name]
        for output in dict.fromkeys(given)
    ]
    by_pid = {row["pid"]: row for row in BENCHMARK_ROWS["mathvista"]}
    cases += [
        {"benchmark": "mathvista", "row": by_pid[pid], "output": out, "model_says": said}
        for pid, out, said in MATH_VISTA_READ
    ]
    cases += [
        {"benchmark": "math", "row": BENCHMARK_ROWS["math"][n], "output": out, "model_says": said}
        for n, out, said in MATH_READ
    ]
    return cases


def mixed_cases(seed: int, count: int) -> list[dict[str, Any]]:
    """Outputs put together from pieces of the fixed ones and of random characters, for sets that ask no model."""
    rng = random.Random(seed)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for case in fixed_cases():
        by_name.setdefault(case["benchmark"], []).append(case)
    pieces = (
        " ",
        "\n",
        ".",
        ",",
        "(",
        ")",
        ":",
        "A",
        "B",
        "b",
        "5",
        "12",
        "%",
        "$",
        "{",
        "}",
        "\\",
        "is ",
        "the answer is ",
        "=",
        "-",
        "/",
        "0.",
        "x",
        "é",
    )
    cases = []
    for name in sorted(by_name.keys() - {"math", "mathvista"}):
        for _ in range(count):
            chosen = [rng.choice(by_name[name]) for _ in range(2)]
            parts = [each["output"] for each in chosen[: rng.randint(1, 2)]]
            parts += rng.choices(pieces, k=rng.randint(0, 3))
            rng.shuffle(parts)
            cases.append({"benchmark": name, "row": chosen[0]["row"], "output": "".join(parts)})
    return cases


@cache
def compared() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(case, what lmms-eval's code makes of it) for every case, in one process."""
    cases = fixed_cases() + mixed_cases(seed=1, count=400)
    program = PROJECT / "tests" / "support" / "programs" / "lmms_eval_scores.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(LMMS_EVAL)},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return list(zip(cases, json.loads(done.stdout.splitlines()[-1]), strict=True))


def our_prompt(name: str, row: dict[str, Any]) -> str:
    known = KNOWN[name].benchmark
    columns = {part: value if isinstance(value, str) else list(value) for part, value in known.columns.items()}
    read: Callable[[dict[str, Any]], str] = TEXTS.get(
        name, lambda row: ColumnRules(columns, known.answer_after, {}).parts(row, "row").text
    )
    return KNOWN[name].prompt.replace("{question}", read(row))


@needs_lmms_eval
@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(RULES.keys() - {"a_okvqa"}))
def test_every_score_is_the_one_that_lmms_eval_gives(name: str) -> None:
    mine = [(case, theirs) for case, theirs in compared() if case["benchmark"] == name and "metrics" in theirs]
    different = [
        (case["row"], case["output"], theirs["metrics"], ours)
        for case, theirs in mine
        for ours in [score_output(name, case["row"], case["output"]).metrics]
        if {key: ours[key] for key in theirs["metrics"]} != theirs["metrics"]
    ]
    assert different == []
    assert len(mine) >= 12


@needs_lmms_eval
@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(RULES.keys() - {"a_okvqa"}))
def test_every_prompt_is_the_one_that_lmms_eval_gives(name: str) -> None:
    prompts = {json.dumps(case["row"]): theirs["prompt"] for case, theirs in compared() if case["benchmark"] == name}
    assert prompts == {row: our_prompt(name, json.loads(row)) for row in prompts}


def test_every_known_benchmark_has_a_rule_and_every_rule_a_set() -> None:
    assert RULES.keys() == KNOWN.keys() == BENCHMARK_ROWS.keys()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        (r"\frac{7}{2}", 3.5),
        ("2^{3}", 8),
        (r"\sqrt{2}", None),
        (r"\sqrt{9}", None),
        ("x", None),
        ("", None),
        ("1/0", None),
    ],
)
def test_arithmetic_in_latex(text: str, value: float | None) -> None:
    assert latex_value(text) == value


@given(st.text(alphabet=r"0123456789+-*/^(){}\fracsqrt. ", max_size=40))
def test_no_text_is_too_much_for_the_arithmetic(text: str) -> None:
    value = latex_value(text)
    assert value is None or isinstance(value, int | float)


@given(st.text(max_size=60))
def test_a_letter_that_is_read_stands_in_the_text(text: str) -> None:
    letter = option_letter(text, "ABCD")
    assert letter == "" or letter in text


@given(st.sampled_from(sorted(RULES.keys() - {"math"})), st.text(max_size=40))
def test_any_output_is_scored(name: str, output: str) -> None:
    for row in BENCHMARK_ROWS[name]:
        scored = score_output(name, row, output)
        assert 0.0 <= scored.score <= 1.0
        assert scored.score in scored.metrics.values()
