"""Properties of every judge on any text: time, verdicts, specifications."""

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import fuzz_judges
from judges import FLAGS, OUTCOMES, RULES, JudgeSpecError, Output, find_judge, give_verdict, give_verdicts
from judges.extraction import MARKERS
from judges.rules import Rule
from judges.vqa import normalise
from tests.support.command_line import PROJECT

STRING_RULES = ("exact", "choice", "numeric", "chartqa", "anls", "vqa", "textvqa", "list")


# --- properties -------------------------------------------------------------------------------------------


ANSWERS = st.lists(st.text(min_size=1).filter(lambda text: text.strip()), min_size=1, max_size=4)


@pytest.mark.parametrize("name", ["exact", "choice", "numeric", "chartqa", "anls", "list"])
@given(answers=ANSWERS)
def test_a_judge_accepts_every_accepted_answer_written_back(name: str, answers: list[str]) -> None:
    for answer in answers:
        if name == "chartqa" and answer.strip().lstrip("+-").rstrip("%").lower() in ("nan", "inf", "infinity"):
            continue
        assert find_judge(name).score(answer, answers) >= find_judge(name).correct_from


@pytest.mark.parametrize("name", ["vqa", "textvqa"])
@given(answer=st.text(alphabet="abcdefgh 123", min_size=1))
def test_an_answer_that_every_annotator_gave_is_right(name: str, answer: str) -> None:
    normalised = normalise(answer)
    assert find_judge(name).score(normalised, [normalised] * 10) == 1.0


@pytest.mark.parametrize("name", ["exact", "choice", "numeric", "anls", "list"])
@given(left=st.text(max_size=20), right=st.text(max_size=20))
def test_symmetric_rules_are_symmetric(name: str, left: str, right: str) -> None:
    assert find_judge(name).score(left, [right]) == find_judge(name).score(right, [left])


WORDS = st.text(alphabet="abcxyz 0123456789.,%/-", min_size=1, max_size=12)


@pytest.mark.parametrize("name", ["exact", "choice", "numeric", "chartqa", "textvqa", "list"])
@given(answer=WORDS, accepted=WORDS)
def test_white_space_around_and_case_do_not_matter(name: str, answer: str, accepted: str) -> None:
    judge = find_judge(name)
    plain = judge.score(answer, [accepted] * 4)
    assert judge.score(f" \t{answer}\n", [accepted] * 4) == plain
    assert judge.score(answer.upper(), [accepted] * 4) == plain


@pytest.mark.parametrize("name", [*STRING_RULES, "regex(pattern='a|b')"])
@given(text=st.text(), answers=st.lists(st.text(), max_size=3), choices=st.lists(st.text(), max_size=3))
def test_no_text_makes_a_judge_raise_or_score_beyond_its_range(
    name: str, text: str, answers: list[str], choices: list[str]
) -> None:
    verdict = give_verdict(find_judge(name), text, answers, finish_reason="stop", needs_marker=False, choices=choices)
    assert verdict.outcome in OUTCOMES
    assert 0.0 <= verdict.score <= 1.0


PIECES = (
    "### Answer: ",
    "a",
    "1",
    "1,",
    ",",
    " ",
    ". ",
    "(B) ",
    "\\boxed{",
    "a and ",
    "the ",
    "%",
    "-",
    "1/2 ",
    "e1",
    "ß",
)


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*STRING_RULES, "regex(pattern='(a|aa)+x')"])
def test_a_megabyte_of_anything_is_judged_in_under_a_second(name: str) -> None:
    judge = find_judge(name)
    for piece in PIECES:
        text = piece * (1_000_000 // len(piece))
        for answer in (text, "### Answer: " + text):
            started = time.process_time()
            give_verdict(judge, answer, ["a b", "c"], finish_reason="stop", needs_marker=False, choices=["a b", "c"])
            assert time.process_time() - started < 1.0, (name, piece)


# --- verdicts ---------------------------------------------------------------------------------------------


def test_outcomes_tell_truncated_and_unparsable_from_wrong() -> None:
    def outcome(text: str, reason: str = "stop") -> str:
        return give_verdict(find_judge("exact"), text, ["cat"], finish_reason=reason, needs_marker=True).outcome

    assert outcome("### Answer: The cat") == "correct"
    assert outcome("### Answer: dog") == "wrong"
    assert outcome("a cat") == "unparsable"
    assert outcome("a cat sat on", "length") == "truncated"
    assert outcome("### Answer: cat", "length") == "truncated"


def test_a_soft_score_is_kept_and_its_threshold_makes_it_correct() -> None:
    def verdict(spec: str) -> tuple[float, str]:
        given = give_verdict(find_judge(spec), "helo", ["hello"], finish_reason="stop", needs_marker=False)
        return round(given.score, 6), given.outcome

    assert verdict("anls") == (0.8, "correct")
    assert verdict("anls(correct_from=0.9)") == (0.8, "wrong")


@pytest.mark.parametrize("name", STRING_RULES)
def test_a_batch_says_what_one_by_one_says(name: str) -> None:
    outputs = [
        Output(text, ["B", "cat", "2"], ("dog", "cat"), reason, marker)
        for text in ("Answer: B", "cat", "two", "", "x\ny", "Answer: 2.0")
        for reason in ("stop", "length")
        for marker in (True, False)
    ]
    judge = find_judge(name)
    assert give_verdicts(judge, outputs) == [
        give_verdict(
            judge, o.text, o.answers, finish_reason=o.finish_reason, needs_marker=o.needs_marker, choices=o.choices
        )
        for o in outputs
    ]


# --- specifications ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("exact", "exact"),
        (" exact ( ) ", "exact"),
        ("exact(synonyms=false)", "exact"),
        ("numeric(absolute = 1, relative = 0.5)", "numeric(absolute=1.0,relative=0.5)"),
        ("numeric(relative = 0.5, absolute = 1)", "numeric(absolute=1.0,relative=0.5)"),
        (r"regex(pattern='\d \"x\", (a)')", r'regex(pattern="\\d \\\"x\\\", (a)")'),
        ('exact(markers=["boxed", "is"])', 'exact(markers=["boxed", "is"])'),
    ],
)
def test_equal_specifications_have_one_name(spec: str, name: str) -> None:
    assert find_judge(spec).name == name
    assert find_judge(name).name == name
    assert find_judge(name).options == find_judge(spec).options


@given(st.text(max_size=20).filter(lambda text: "\\" not in text))
def test_a_name_with_any_text_in_it_names_the_same_judge_again(text: str) -> None:
    from judges.spec import _canonical

    name = _canonical("python", {"function": text})
    import tomllib

    assert tomllib.loads(f"x = {{{name.removeprefix('python(').removesuffix(')')}}}") == {"x": {"function": text}}


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("vibes", "judge 'vibes' is unknown; known: anls, chartqa, choice, exact"),
        ("", "is unknown"),
        ("numeric(tolerance=0.1)", "unknown option 'tolerance'; known: absolute, correct_from, markers, relative"),
        ("numeric(relative='much')", "option 'relative' must be a number, 0 or more, not 'much'"),
        ("numeric(relative=-1)", "must be a number, 0 or more"),
        ("numeric(relative=nan)", "must be a number"),
        ("numeric(relative", "write it as NAME, or as NAME(option = value) with both brackets"),
        ("numeric(relative)", "write options as name = value"),
        ("exact(synonyms=1)", "must be true or false"),
        ("exact(correct_from=0)", "correct_from must be above 0"),
        ("exact(correct_from=1.5)", "correct_from must be above 0, and 1 at most"),
        ("exact(markers=['box'])", "marker 'box' is unknown"),
        ("exact(markers='boxed')", "must be a list of texts"),
        ("regex(pattern='(')", "is not a regular expression"),
        ("python", "must be written as package.module:name"),
        ("python(function='no_such_module_x:f')", "cannot be imported"),
        ("python(function='math:pi')", "cannot be called"),
        ("choice(choices=['a'])", "unknown option 'choices'"),
    ],
)
def test_a_wrong_specification_names_the_fault_and_the_choices(spec: str, complaint: str) -> None:
    with pytest.raises(JudgeSpecError) as caught:
        find_judge(spec)
    assert complaint in str(caught.value)


def test_an_option_of_a_new_rule_may_be_a_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def prefix(answer: str, accepted: Sequence[str], *, length: int = 3) -> float:
        return float(any(answer[:length] == each[:length] for each in accepted))

    monkeypatch.setitem(RULES, "prefix", Rule("prefix", "1", prefix))
    assert find_judge("prefix(length = 2)").score("reading", ["red"]) == 1.0
    with pytest.raises(JudgeSpecError, match="option 'length' must be a whole number, not 'two'"):
        find_judge("prefix(length = 'two')")


def test_answers_that_a_rule_cannot_work_with_are_refused() -> None:
    with pytest.raises(JudgeSpecError, match="one an annotator"):
        find_judge("vqa").check_answers(["red"])
    with pytest.raises(JudgeSpecError, match="is not a regular expression"):
        find_judge("regex").check_answers(["("])
    find_judge("exact").check_answers(["red"])


def test_every_rule_marker_and_flag_has_a_row_in_the_docs() -> None:
    text = (PROJECT / "docs" / "judges.md").read_text()
    for name in (*RULES, *MARKERS, *FLAGS, *OUTCOMES):
        assert f"\n| `{name}` |" in text, name
    for name, rule in RULES.items():
        assert rule.name == name
        assert rule.version


def test_random_outputs_make_no_judge_break_a_promise() -> None:
    rng, judges = random.Random(7), [find_judge(spec) for spec in fuzz_judges.RULES]
    for _ in range(200):
        fuzz_judges.fuzz_once(rng, judges)


@pytest.mark.parametrize(
    ("judge", "accepted", "reference"),
    [
        ("exact", ["cat", "a cat"], "cat"),
        ("regex", ["(cat|kitten)s?"], None),
        ("regex", ["(cat|kitten)s?", "cat"], "cat"),
        ("vqa", ["a", *["b"] * 9], "b"),
        ("vqa", list("abcdefghij"), None),
        ("llm", ["whatever"], "whatever"),
        ("exact", [], None),
    ],
)
def test_the_reference_answer_is_one_that_the_judge_accepts(judge: str, accepted: list[str], reference: str) -> None:
    assert find_judge(judge).reference_answer(accepted) == reference
