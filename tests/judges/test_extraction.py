"""Reading the final answer from an output."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import extract_answer
from judges.extraction import MARKERS, check_markers


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I see a cat.\n### Answer: cat", "cat"),
        ("### Answer: dog\nno, wait.\n### Answer: cat", "cat"),
        ("Answer: **yes**.", "yes"),
        ("**Answer:** no", "no"),
        ("**Answer**: no", "no"),
        ("**Final Answer: no**", "no"),
        ('so\nanswer: "teal"<end_of_utterance>', "teal"),
        ("### Answer:\n42", "42"),
        ("### Answer: 1,000.5", "1,000.5"),
        ("### Answer: red\nand then some", "red"),
        ("### Answer: red</s><|im_end|>", "red"),
        ("### Answer： rouge", "rouge"),
        ("ANSWER: B", "B"),
        ("### Answer: and so on...", "and so on..."),
        ("The answer is 42.", "42"),
        ("The answer is 3.5 m. I hope it is correct.", "3.5 m"),
        ("The final answer is: Mr. Smith", "Mr. Smith"),
        ("<think>Answer: maybe 3</think><answer>4</answer>", "4"),
        ("<answer>\n4\n</answer> done", "4"),
        ("<answer>4", "4"),
        ("<answer>Answer: 5</answer>", "5"),
        (r"so $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"\boxed{1} no, \boxed{\text{a \} b}}", r"\text{a \} b}"),
        (r"The answer is \boxed{5}.", "5"),
        (r"### Answer: \boxed{5}", "5"),
        ("### Answer: 5\nThe answer is clear.", "5"),
        ("### Answer: the answer: 7", "7"),
    ],
)
def test_the_last_marker_gives_the_answer(text: str, answer: str) -> None:
    assert extract_answer(text, needs_marker=True) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I see a cat.",
        "### Answer:",
        "### Answer:  \n ",
        "### Answer: cat\n### Answer:",
        "The answers vary",
        "my_answer: cat",
        "The answer isn't clear",
        r"\boxed{never closed",
        r"### Answer: 4 or \boxed{never closed",
        r"\boxed 5",
        "<answer></answer>",
        "### Answer: **",
    ],
)
def test_no_answer_is_none_when_a_marker_is_needed(text: str) -> None:
    assert extract_answer(text, needs_marker=True) is None


def test_direct_answer_stands_alone_unless_it_has_several_lines() -> None:
    assert extract_answer(" red. ", needs_marker=False) == "red"
    assert extract_answer("red\nblue", needs_marker=False) is None


def test_as_written_strips_only_white_space_and_end_tokens() -> None:
    assert extract_answer('### Answer:  "12.".  </s>', needs_marker=True, as_written=True) == '"12.".'
    assert extract_answer(" a\nb ", needs_marker=False, as_written=True) == "a\nb"


def test_the_order_of_markers_decides_and_is_configurable() -> None:
    text = r"### Answer: 1. <answer>2</answer> \boxed{3} The answer is 4"
    for name, answer in [("hash", "1."), ("tag", "2"), ("boxed", "3"), ("is", "4")]:
        written = extract_answer(text.replace(" <", "\n<"), needs_marker=True, markers=(name,), as_written=True)
        assert written == answer
    assert extract_answer(text, needs_marker=True, markers=("tag", "boxed")) == "2"
    assert extract_answer(text, needs_marker=True, markers=("tag|boxed",)) == "3"
    assert extract_answer("Answer: 5", needs_marker=True, markers=("hash",)) is None
    with pytest.raises(ValueError, match="marker 'box' is unknown; known: hash"):
        check_markers(["box"])


@given(st.text(), st.booleans(), st.booleans())
def test_extraction_never_raises_and_never_returns_blank(text: str, needs_marker: bool, as_written: bool) -> None:
    answer = extract_answer(text, needs_marker=needs_marker, as_written=as_written)
    assert answer is None or answer.strip() == answer != ""


MARKED = st.lists(
    st.sampled_from(
        ["### Answer:", "answer", " is ", "\\boxed", "{", "}", "\\", "<answer>", "</answer>", "\n", "x", "İ"]
    ),
    max_size=30,
).map("".join)


@given(MARKED, st.sampled_from([*MARKERS]))
def test_extraction_never_raises_on_heaps_of_markers(text: str, name: str) -> None:
    answer = extract_answer(text, needs_marker=True, markers=(name,))
    assert answer is None or (answer and answer in text)


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1), st.text(alphabet="ab \n", max_size=40))
def test_what_is_written_after_a_marker_comes_back(answer: str, before: str) -> None:
    for marked in (f"### Answer: {answer}", f"\\boxed{{{answer}}}", f"<answer>{answer}</answer>"):
        assert extract_answer(f"{before}\n{marked}", needs_marker=True) == answer


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "### Answer: ",
            "answer",
            "answer ",
            "answer is ",
            "the answer is\n",
            "\\boxed{",
            "\\boxed",
            "\\boxed{}",
            "{",
        ),
        *(
            "<answer>",
            "</answer>",
            "<answer></answer>",
            "</s>",
            " ",
            "\n",
            "*",
            '"',
            ".",
            "#",
            "answer:\n\n",
            "\\",
            "İ",
        ),
    ],
)
@pytest.mark.heavy
def test_extraction_is_linear_on_a_megabyte_of(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.process_time()
    for adversarial in (text, f"{text}x", f"x{text}"):
        extract_answer(adversarial, needs_marker=True)
        extract_answer(adversarial, needs_marker=False, as_written=True)
    assert time.process_time() - started < 6, "six extractions, under a second each"
