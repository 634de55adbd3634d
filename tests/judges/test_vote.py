"""Votes over a question's samples, and the guards' flags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import FLAGS, find_judge, give_verdict
from judges.vote import vote


def test_equal_answers_vote_together_by_the_questions_own_rule() -> None:
    counted = vote(["0.5", "1/2", "2", None, "0.50", "2"], find_judge("numeric").same)
    assert counted.winner in ("0.5", "1/2", "0.50")
    assert counted.votes == (3, 3, 2, 0, 3, 2)
    assert counted.share == 3 / 6
    assert counted.margin == pytest.approx(1 / 6)
    assert counted.shares == (0.5, 0.5, 2 / 6, 0.0, 0.5, 2 / 6)
    assert counted.weight(0, 2) == pytest.approx(1 / 6)


def test_a_tie_goes_to_the_answer_given_first_and_has_no_margin() -> None:
    counted = vote(["b", "a", "a", "b"], find_judge("exact").same)
    assert (counted.winner, counted.share, counted.margin) == ("b", 0.5, 0.0)


def test_nobody_answers_or_everybody_agrees() -> None:
    assert vote([], find_judge("exact").same).share == 0.0
    nobody = vote([None, None], find_judge("exact").same)
    assert (nobody.winner, nobody.share, nobody.margin, nobody.votes) == (None, 0.0, 0.0, (0, 0))
    everybody = vote(["Cat", "the cat"], find_judge("exact").same)
    assert (everybody.winner, everybody.share, everybody.margin) == ("Cat", 1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "left", "right"),
    [("vqa", "two dogs", "2 dogs"), ("textvqa", "a cat", "Cat"), ("regex", "Cat", "cat"), ("list", "a, b", "b and a")],
)
def test_annotator_and_pattern_rules_vote_by_text(name: str, left: str, right: str) -> None:
    assert find_judge(name).same(left, right)
    assert not find_judge(name).same(left, "something else")


def test_options_vote_together_by_letter_and_text() -> None:
    judge = find_judge("choice")
    counted = vote(["B", "(b)", "cat", "A"], lambda left, right: judge.same(left, right, ("dog", "cat")))
    assert counted.votes == (3, 3, 3, 1)


@given(st.lists(st.one_of(st.none(), st.sampled_from(["1", "1.0", "2", "x", "X"])), max_size=12))
def test_votes_add_up(answers: list[str | None]) -> None:
    counted = vote(answers, find_judge("numeric").same)
    given = [answer for answer in answers if answer is not None]
    # Each class of n answers contributes n times 1/n.
    classes = sum(1 / count for count in counted.votes if count)
    assert round(classes) == len({"x" if a in "xX" else float(a) for a in given})
    assert 0.0 <= counted.margin <= counted.share <= 1.0
    assert (counted.winner is None) == (not given)


REASONS = "I look at the picture and see a shape in it."


@pytest.mark.parametrize(
    ("text", "choices", "flags"),
    [
        (f"{REASONS}\n### Answer: B", ("dog", "cat"), ()),
        ("### Answer: B", (), ("answer_only",)),
        ("So\n### Answer: B", (), ("answer_only",)),
        (f"{REASONS}\n### Answer: A or B", ("dog", "cat"), ("lists_options",)),
        (f"{REASONS}\n### Answer: dog, cat", ("dog", "cat"), ("lists_options",)),
        (f"{REASONS}\n### Answer: (B) dog", ("dog", "cat"), ("contradiction",)),
        (f"{REASONS}\n### Answer: (B) cat", ("dog", "cat"), ()),
        (f"{REASONS}\n### Answer: A cat", ("dog", "cat"), ()),
        (f"{REASONS}\n### Answer: dog\nWait.\n### Answer: cat", (), ("changed",)),
        (f"{REASONS}\n### Answer: cat\nSo\n### Answer: the Cat", (), ()),
        (f"{REASONS} The answer is cat.\n### Answer: cat", (), ()),
        (f"{REASONS}\n### Answer: cat\nBut it could be a dog.", (), ("goes_on",)),
        (REASONS * 9 + "\n### Answer: cat", (), ("repetitive",)),
        ("word" + " word" * 1200 + "\n### Answer: cat", (), ("long", "repetitive")),
        (" ".join(map(str, range(1200))) + "\n### Answer: cat", (), ("long",)),
        (f"{REASONS} The answer is \\boxed{{cat}}.", (), ()),
    ],
)
def test_guards_flag_what_a_right_answer_did_not_earn(
    text: str, choices: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    verdict = give_verdict(find_judge("choice"), text, ["B"], finish_reason="stop", needs_marker=True, choices=choices)
    assert verdict.flags == flags
    assert set(flags) <= set(FLAGS)


def test_a_direct_answer_needs_no_reasons() -> None:
    verdict = give_verdict(find_judge("exact"), "Answer: cat", ["cat"], finish_reason="stop", needs_marker=False)
    assert (verdict.outcome, verdict.flags) == ("correct", ())
