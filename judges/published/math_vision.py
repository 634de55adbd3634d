"""MATH-Vision: reads the answer from an output and compares it, as lmms-eval does.

lmms-eval passes LaTeX to latex2sympy2 and the result to Python's `eval`. Here `judges.published.latex_value` does the
arithmetic without evaluating code. Answers that are not plain arithmetic are equal only if their texts are.
"""

import re
from collections.abc import Sequence

from judges.published.latex_value import latex_value

FLAGS = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
BOX = re.compile(r"oxed{(.*)}", re.DOTALL)
LETTERS = "abcde"
REMOVED_FIRST = (" ", r"\,")
REMOVED = (
    *("\n", r"\text", r"\mbox"),
    *(r"\left", r"\right", r"^{\circ}", r"^\circ", "{m}^3", "m^3", "{units}", "units", "{km}", "km"),
)


def math_vision(output: str, answer: str, options: Sequence[str]) -> bool:
    """Whether the output's answer is the accepted one: the letter of an option, its text, or an equal number."""
    found = read_answer(output)
    text = options[ord(answer) - ord("A")] if options else ""
    return same(answer, found) or same(text, found)


def read_answer(output: str) -> str:
    """The answer in an output, cleaned of LaTeX that changes no value."""
    text = output.strip()
    for letter in "ABCDE":
        if text.endswith((f" {letter}.", f" ({letter}).")) or text.startswith(
            (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        ):
            text = letter
    last = text.split("is ")[-1].rstrip(".")
    if _is_number(last):
        text = last
    if "oxed{" not in text:
        for flag in FLAGS:
            for spelt in (flag, flag.replace("the", "The")):
                before, text = text, text.split(spelt)[-1].strip()
                if spelt in before:
                    text = text.split("\n")[0].split(". ")[0]
    elif text.count("oxed{") > 1:
        text = "\\boxed{" + text.split("oxed{")[-1]
    text = _cleaned(text)
    for opened, closed in ("()", "{}"):
        for letter in LETTERS:
            text = text.replace(f"{opened}{letter}{closed}", letter)
    return text.rstrip(".").lstrip(":").strip()


def same(left: str, right: str) -> bool:
    """Equal as lower-cased texts, or as numbers, or as tuples of numbers, rounded to two places."""
    left, right = left.lower(), right.lower()
    if not left.replace(" ", "") or not right.replace(" ", ""):
        return False
    if left.strip() == right.strip():
        return True
    left, right = _tuple(left), _tuple(right)
    if left == right:
        return True
    values = latex_value(left), latex_value(right)
    return None not in values and values[0] == values[1]


def _tuple(text: str) -> str:
    """A tuple or list with each element as a rounded number; unchanged if an element is not a number."""
    elements = text[1:-1].split(",")
    if len(elements) < 2 or (text[0], text[-1]) not in (("(", ")"), ("[", "]")):
        return text
    rounded = [each if "infty" in each or each in ("a", "-a") else latex_value(each) for each in elements]
    return text if None in rounded else f"{text[0]}{','.join(map(str, rounded))}{text[-1]}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cleaned(text: str) -> str:
    text = text.lower().replace("{}", "")
    boxes = BOX.findall(text)
    text = boxes[-1] if boxes else text
    closed, opened = text.find("}"), text.find("{")
    if closed != -1 and (opened == -1 or closed < opened):
        text = text.split("}")[0]
    text = text.split("=")[-1].split(r"\approx")[-1]
    for removed in REMOVED_FIRST:
        text = text.replace(removed, "")
    text = text.replace("∞", r"\infty").replace(r"+\infty", r"\infty").replace(r"\\", "\\")
    for removed in REMOVED:
        text = text.replace(removed, "")
        if removed == r"\mbox":
            text = text.replace("bmatrix", "pmatrix")
    return _stripped(text)


def _stripped(text: str) -> str:
    for old, new in (("\n", ""), (r"\!", ""), (r"\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac")):
        text = text.replace(old, new)
    for old in (r"\left", r"\right", r"^{\circ}", r"^\circ", r"\$", "$"):
        text = text.replace(old, "")
    text = text.split(r"\text{ ")[0].replace(r"\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    text = f"0{text}" if text[0] == "." else text
    for sign in ("=", r"\approx"):
        if text.count(sign) == 1:
            text = text.split(sign)[-1]
    if "sqrt" in text:
        text = _closed_roots(text)
    text = text.replace(" ", "")
    if "sqrt" in text:
        text = _closed_fractions(text)
    if text == "0.5":
        return r"\frac{1}{2}"
    return _fraction(text)


def _closed_roots(text: str) -> str:
    r"""`\sqrt2` as `\sqrt{2}`."""
    first, *rest = text.split(r"\sqrt")
    closed = [each if not each or each[0] == "{" else f"{{{each[0]}}}{each[1:]}" for each in rest]
    return r"\sqrt".join([first, *closed]) if rest else text


def _closed_fractions(text: str) -> str:
    r"""`\frac12` as `\frac{1}{2}`; unchanged if one has no second part."""
    first, *rest = text.split(r"\frac")
    made = first
    for each in rest:
        if each[:1] == "{":
            made += rf"\frac{each}"
        elif len(each) < 2:
            return text
        else:
            above, below = each[0], each[1]
            made += rf"\frac{{{above}}}" + (each[1:] if below == "{" else f"{{{below}}}{each[2:]}")
    return made


def _fraction(text: str) -> str:
    r"""`3/4` as `\frac{3}{4}`."""
    parts = text.split("/")
    if len(parts) != 2:
        return text
    try:
        above, below = int(parts[0]), int(parts[1])
    except ValueError:
        return text
    return rf"\frac{{{above}}}{{{below}}}" if text == f"{above}/{below}" else text
