"""Judge `preference`: one verdict, in its tag, and nothing in the thinking counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import JudgeSpecError, find_judge, give_verdict
from judges.verdict import Verdict

SCORED = "Candidate 1: object 9, reasons 8, form 9, sum = 26.\nCandidate 2: object 3, reasons 8, form 9, sum = 20.\n"


def verdict(text: str, better: str = "1", *, needs_marker: bool = True, finish_reason: str = "stop") -> Verdict:
    judge = find_judge("preference")
    return give_verdict(judge, text, [better], finish_reason=finish_reason, needs_marker=needs_marker)


@pytest.mark.parametrize(
    "written", ["1", " Candidate 1 ", "Image 1 is better", "answer 1.", "The first is better", "RESPONSE 1 is better."]
)
def test_a_verdict_in_its_tag_is_read_as_models_write_it(written: str) -> None:
    assert verdict(f"{SCORED}<answer>{written}</answer>").outcome == "correct"
    assert verdict(f"{SCORED}<answer>{written}</answer>", "2").outcome == "wrong"


@pytest.mark.parametrize(
    "text",
    [
        "Candidate 1 is better",
        "### Answer: 1",
        "<answer>1",
        "1</answer>",
        "</answer>1<answer>",
        "<answer>1</answer> or <answer>2</answer>",
        "<answer>1</answer> <answer>1</answer>",
        "<answer>1 or 2</answer>",
        "<answer>both</answer>",
        "<answer>neither 1</answer>",
        "<answer></answer>",
        "<answer>3</answer>",
        "<answer>12</answer>",
    ],
)
def test_no_verdict_or_two_is_unparsable(text: str) -> None:
    assert verdict(SCORED + text).outcome == "unparsable"


@given(st.text(max_size=200).filter(lambda text: "answer>" not in text.lower()), st.sampled_from(["1", "2"]))
def test_whatever_is_thought_the_tag_decides(thinking: str, better: str) -> None:
    # A few letters change their length in lower case; then places cannot be told, and nothing is guessed.
    outcome = verdict(f"{thinking}<answer>{better}</answer>", better).outcome
    assert outcome == ("correct" if len(thinking.lower()) == len(thinking) else "unparsable")


@given(st.text(max_size=300))
def test_nothing_that_a_model_writes_breaks_the_judge(text: str) -> None:
    assert verdict(text).outcome in ("correct", "wrong", "unparsable")


def test_a_direct_verdict_needs_no_tag_and_may_be_truncated() -> None:
    assert verdict("1", needs_marker=False).outcome == "correct"
    assert verdict("Candidate 2 is better", "2", needs_marker=False).outcome == "correct"
    assert verdict("perhaps 1", needs_marker=False).outcome == "unparsable"
    assert verdict("<answer>1</answer>", finish_reason="length").outcome == "truncated"


def test_contradicting_sums_are_flagged_without_another_outcome() -> None:
    assert "sums_contradict" not in verdict(f"{SCORED}<answer>1</answer>").flags
    found = verdict(f"{SCORED}<answer>2</answer>", "2")
    assert (found.outcome, found.flags) == ("correct", ("sums_contradict",))
    short = "1: image 9, step 9, answer 1 = 19\n2: image 9, step 9, answer 9 = 27\n"
    assert verdict(f"{short}<answer>2</answer>", "2").flags == ()
    assert verdict(f"{short}<answer>1</answer>", "1").flags == ("sums_contradict",)
    assert verdict("Image 1: 7+8 = 15\nImage 2: 9+9 = 18\n<answer>Image 1 is better</answer>").flags == (
        "sums_contradict",
    )


@pytest.mark.parametrize(
    ("scores", "flags"),
    [
        (SCORED, ()),
        ("1: object 9, form 8 = 17\n2: object 8, form 9 = 17\n", ("sums_equal",)),
        ("1: object 9, form 8 = 18\n2: object 8, form 1 = 9\n", ("sums_wrong",)),
        ("1: object 9, form 8 = 18\n2: object 9, form 9 = 18\n", ("sums_equal", "sums_wrong")),
        ("1: a red circle 9. answer yes for no 1 = 10\n2: no image 1. answer no for no 1 = 2\n", ()),
        ("1: accuracy 9, names 2 dogs; reasoning 8, follows; clarity 9 = 26\n2: 9/10; 8/10. total: 17\n", ()),
        ("1: object 9, form 8.5 = 17.5\n2: object 8.0, form 9 = 17\n", ()),
        ("1: clear, = 9\n2: wrong = 3\n", ()),
        ("1: 9\n2: 3\n", ()),
    ],
)
def test_sums_that_decide_nothing_or_are_wrong_are_flagged(scores: str, flags: tuple[str, ...]) -> None:
    assert verdict(f"{scores}<answer>1</answer>").flags == flags


@pytest.mark.parametrize(
    "line",
    [
        "accuracy 9, steps 9 because x; reasoning 8 = 26",
        "accuracy 9, steps 8: clear, style 9 = 26",
        "accuracy **9**, reasoning **8**, clarity 7, depth 6 = 30",
        "accuracy 9 and reasoning 8 and clarity 9, brevity 5 = 31",
        "9 out of 10, 8 out of 10, total 17",
        "accuracy 9/20, reasoning 8/20, total 17",
        "says the answer is 12. accuracy 9, reasoning 8 = 17",
        "Semantic 8 (matches all 3). Aesthetic 7 = 15",
        "accuracy 9 (2+2=4 is right), reasoning 8 = 17",
        "accuracy 9, names the right color; reasoning 8, follows; clarity 9 = 26",
    ],
)
def test_points_in_natural_texts_are_not_called_wrong(line: str) -> None:
    assert "sums_wrong" not in verdict(f"1: {line}\n2: accuracy 1, reasoning 1 = 2\n<answer>1</answer>").flags


@pytest.mark.parametrize("answers", [["3"], ["first"], ["1", "2"], []])
def test_an_accepted_answer_that_is_no_verdict_is_refused(answers: list[str]) -> None:
    with pytest.raises(JudgeSpecError, match='accepts "1" or "2"'):
        find_judge("preference").check_answers(answers)


def test_verdicts_vote() -> None:
    judge = find_judge("preference")
    assert judge.same("1", "1")
    assert not judge.same("1", "2")
    assert judge.reference_answer(["2"]) == "2"
