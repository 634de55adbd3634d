"""Reading the final answer from an output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import JUDGES, OUTCOMES, extract_answer, give_verdict


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I see a cat.\n### Answer: cat", "cat"),
        ("### Answer: dog\nno, wait.\n### Answer: cat", "cat"),
        ("Answer: **yes**.", "yes"),
        ("**Answer:** no", "no"),
        ('so\nanswer: "teal"<end_of_utterance>', "teal"),
        ("### Answer:\n42", "42"),
        ("### Answer: 1,000.5", "1,000.5"),
        ("### Answer: red\nand then some", "red"),
    ],
)
def test_last_marker_gives_the_answer(text: str, answer: str) -> None:
    assert extract_answer(text, needs_marker=True) == answer


@pytest.mark.parametrize("text", ["", "I see a cat.", "### Answer:", "### Answer:  \n ", "The answers vary"])
def test_no_answer_is_none_when_a_marker_is_needed(text: str) -> None:
    assert extract_answer(text, needs_marker=True) is None


def test_direct_answer_stands_alone_unless_it_has_several_lines() -> None:
    assert extract_answer(" red. ", needs_marker=False) == "red"
    assert extract_answer("red\nblue", needs_marker=False) is None


@given(st.text(), st.booleans())
def test_extraction_never_raises_and_never_returns_blank(text: str, needs_marker: bool) -> None:
    answer = extract_answer(text, needs_marker=needs_marker)
    assert answer is None or answer.strip()


def test_extraction_is_fast_on_a_megabyte_of_markers() -> None:
    assert extract_answer("### Answer: " * 90_000 + "x", needs_marker=True) == "x"


def test_outcomes_tell_truncated_and_unparsable_from_wrong() -> None:
    judge = JUDGES["exact"]

    def outcome(text: str, reason: str = "stop") -> str:
        return give_verdict(judge, text, ["cat"], finish_reason=reason, needs_marker=True).outcome

    assert outcome("### Answer: The cat") == "correct"
    assert outcome("### Answer: dog") == "wrong"
    assert outcome("a cat") == "unparsable"
    assert outcome("a cat sat on", "length") == "truncated"
    assert outcome("### Answer: cat", "length") == "truncated"
    assert {"correct", "wrong", "unparsable", "truncated"} < set(OUTCOMES)


@given(st.lists(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1), min_size=1, max_size=4))
def test_exact_accepts_every_accepted_answer_written_back(answers: list[str]) -> None:
    for answer in answers:
        assert JUDGES["exact"].rule(f"  {answer} ", answers) == 1.0


@pytest.mark.parametrize(("answer", "accepted"), [("The Cat.", "cat"), ("a dog", "Dog"), ("ＹＥＳ", "yes"), ("A", "a")])
def test_exact_folds_case_articles_and_punctuation(answer: str, accepted: str) -> None:
    assert JUDGES["exact"].rule(answer, [accepted]) == 1.0


@pytest.mark.parametrize(("answer", "accepted"), [("cats", "cat"), ("not red", "red"), ("1.0", "1"), ("b", "a")])
def test_exact_does_not_accept_what_is_merely_near(answer: str, accepted: str) -> None:
    assert JUDGES["exact"].rule(answer, [accepted]) == 0.0
