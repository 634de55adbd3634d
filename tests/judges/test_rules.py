"""Every rule by tables: written from the published definitions and their known edge cases."""

import time

import pytest

from judges import JudgeError, find_judge, give_verdict
from judges.chartqa import chartqa
from judges.numeric import parse_number
from judges.vqa import normalise


def score(spec: str, answer: str, *accepted: str, choices: tuple[str, ...] = ()) -> float:
    return find_judge(spec).score(answer, list(accepted), choices)


EXACT = [
    ("The Cat.", "cat", True),
    ("a dog", "Dog", True),
    ("ＹＥＳ", "yes", True),
    ("A", "a", True),
    ("A.", "a", True),
    ("the", "a", False),
    ("  New   York ", "new york", True),
    ("STRASSE", "straße", True),
    ("cats", "cat", False),
    ("not red", "red", False),
    ("1.0", "1", False),
    ("b", "a", False),
    ("theatre", "re", False),
    ("yep", "yes", False),
    ("", "", True),
    ("", "x", False),
]


@pytest.mark.parametrize(("answer", "accepted", "right"), EXACT)
def test_exact_folds_case_articles_and_outer_punctuation_only(answer: str, accepted: str, right: bool) -> None:
    assert score("exact", answer, accepted) == right


def test_exact_knows_ways_to_say_yes_and_no_where_asked() -> None:
    assert score("exact(synonyms=true)", "Yep.", "yes") == 1.0
    assert score("exact(synonyms=true)", "false", "No") == 1.0
    assert score("exact(synonyms=true)", "false", "yes") == 0.0
    assert score("exact(synonyms=true)", "maybe", "yes") == 0.0


ANIMALS = ("dog", "cat", "a bird", "2")


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        *((shape, "B", True) for shape in ("B", "b", "(B)", "[B]", "B.", "B)", "B:", "B) cat", "B. cat", "B - cat")),
        *(
            (shape, "B", True)
            for shape in ("option b", "Option B: cat", "**B**", "**B**. cat", "`B`", "$B$", "(B) cat")
        ),
        *((shape, "B", True) for shape in ("cat", "The cat.", "CAT", "1", "B. Because I see a cat")),
        *(
            (shape, "B", False)
            for shape in ("A", "A cat and a dog", "A or B", "A, B", "B and C", "(B", "I think so", "")
        ),
        *((shape, "B", False) for shape in ("Blue", "b cat", "dog", "E", "E) cat", "17", "b.c.")),
        ("cat", "cat", True),
        ("B", "cat", True),
        ("B) dog", "B", True),
        ("B) dog", "A", False),
        ("A cat", "cat", True),
        ("A bird", "C", True),
        ("2", "2", True),
        ("2", "D", True),
        ("D", "2", True),
        ("2", "C", False),
        ("0", "A", True),
    ],
)
def test_choice_reads_letters_texts_and_indices_letters_first(answer: str, accepted: str, right: bool) -> None:
    assert score("choice", answer, accepted, choices=ANIMALS) == right


def test_choice_without_options_compares_like_with_like() -> None:
    assert score("choice", "(b) whatever", "B") == 1.0
    assert score("choice", "the cat", "Cat") == 1.0
    assert score("choice", "cat", "B") == 0.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,000", "1000"),
        ("1.000", "1"),
        ("1 000", "1000"),
        ("1'000", "1000"),
        ("12,34,567.5", "1234567.5"),
        ("1,5", "1.5"),
        ("1.000,5", "1000.5"),
        ("12 345,67", "12345.67"),
        ("-5", "-5"),
        ("−5", "-5"),
        ("minus five", "-5"),
        ("+3", "3"),
        ("-0", "0"),
        ("１２", "12"),
        ("1/2", "0.5"),
        ("½", "0.5"),
        ("1 1/2", "1.5"),
        ("-3/4", "-0.75"),
        ("1e3", "1000"),
        ("1.5E-3", "0.0015"),
        ("1.5 x 10^3", "1500"),
        ("2×10⁻³", "0.002"),
        ("10^3", "1000"),
        (".5", "0.5"),
        ("5.", "5"),
        ("twenty-one", "21"),
        ("a hundred and five", "105"),
        ("two million", "2000000"),
        ("2.5 million", "2500000"),
        ("half", "0.5"),
        ("three quarters", "0.75"),
        ("$1,200.50", "1200.50"),
        ("-$5", "-5"),
        ("5 €", "5"),
        ("50%", "0.5"),
        ("12.5 percent", "0.125"),
        ("5 kg", "5"),
        ("5m^2", "5"),
    ],
)
def test_numeric_reads_numbers_as_people_write_them(text: str, value: str) -> None:
    number, expected = parse_number(text), parse_number(value)
    assert number is not None
    assert expected is not None
    assert number.value == expected.value


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a", "the", "...", "-", "$", "%", "2020-01-05", "12/05/2020", "10:30", "5-6", "1.2.3", "1,,000"),
        *(
            "0x10",
            "1__0",
            "No. 5",
            "five six seven eggs 8",
            "1/0",
            "--5",
            "1e99999",
            "inf",
            "nan",
            "x" * 1000,
            "1" * 300,
        ),
    ],
)
def test_numeric_reads_no_number_where_there_is_none(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("spec", "answer", "accepted", "right"),
    [
        ("numeric", "1,000", "1000", True),
        ("numeric", "1.000", "1000", False),
        ("numeric", "1,000", "1.000", False),
        ("numeric", "0.50", "1/2", True),
        ("numeric", "2/6", "1/3", True),
        ("numeric", "-0", "0", True),
        ("numeric", "9007199254740993", "9007199254740992", False),
        ("numeric", "0.1", "0.10000000000000001", False),
        ("numeric", "50%", "0.5", True),
        ("numeric", "50", "50%", True),
        ("numeric", "50%", "50", True),
        ("numeric", "50%", "5", False),
        ("numeric", "5 kg", "5", True),
        ("numeric", "5 kgs", "5 kg", True),
        ("numeric", "5 kg", "5 g", False),
        ("numeric", "$5", "€5", False),
        ("numeric", "$5", "5 dollars", True),
        ("numeric", "n/a", "N/A", True),
        ("numeric", "5", "n/a", False),
        ("numeric", "n/a", "5", False),
        ("numeric(relative=0.05)", "105", "100", True),
        ("numeric(relative=0.05)", "105.001", "100", False),
        ("numeric(relative=0.05)", "-95", "-100", True),
        ("numeric(relative=0.05)", "0.01", "0", False),
        ("numeric(absolute=0.1)", "0.3", "0.2", True),
        ("numeric(absolute=0.1)", "0.31", "0.2", False),
        ("numeric(absolute=1)", "3", "2", True),
    ],
)
def test_numeric_compares_values_within_the_tolerances(spec: str, answer: str, accepted: str, right: bool) -> None:
    assert score(spec, answer, accepted) == right


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("105", "100", True),
        ("95", "100", True),
        ("105.1", "100", False),
        ("1.05", "1", False),  # 0.050000000000000044 in binary
        ("0.95", "1", False),
        ("2100", "2000", True),
        ("2019", "2020", True),  # years are numbers
        ("0", "0", True),
        ("0.0", "0", False),  # a target of 0 is compared as text
        ("0%", "0%", True),
        ("-0", "0", False),
        ("50%", "0.5", True),
        ("50%", "50", False),
        ("50", "50%", False),
        ("52%", "50%", True),
        ("50%%", "0.5", True),
        ("50 %", "0.5", True),
        ("1,000", "1000", False),
        ("1,000", "1,000", True),
        ("$5", "5", False),
        ("5 kg", "5", False),
        ("1_000", "1000", True),
        ("１２", "12", True),
        ("−5", "-5", False),
        ("1e2", "100", True),
        ("nan", "nan", False),
        ("inf", "inf", False),
        ("5.", "5", True),
        ("Yes", "yes", True),
        ("yes.", "yes", False),
        ("the cat", "cat", False),
        ("2020-01-05", "2020-01-05", True),
        ("", "", True),
        ("", "0", False),
        ("-95", "-100", True),
        ("-100", "100", False),
        ("STRASSE", "straße", False),
    ],
)
def test_chartqa_is_odd_where_the_published_rule_is_odd(answer: str, accepted: str, right: bool) -> None:
    assert chartqa(answer, [accepted]) == right


@pytest.mark.parametrize(
    ("answer", "accepted", "expected"),
    [
        ("hello", ["hello"], 1.0),
        ("HELLO ", ["hello"], 1.0),
        ("hello  world", ["hello world"], 1.0),
        ("helo", ["hello"], 0.8),
        ("abcd", ["abxy"], 0.5),
        ("abc", ["axy"], 0.0),  # 1/3 is below one half
        ("abcd", ["wxyz", "abcx"], 0.75),
        ("", ["x"], 0.0),
        ("", [""], 1.0),
        ("ß", ["ss"], 0.0),  # lower-cased, not case-folded: distance 2 of length 2
        ("a b", ["ab"], 1 - 1 / 3),
    ],
)
def test_anls_is_one_minus_the_normalised_distance(answer: str, accepted: list[str], expected: float) -> None:
    assert score("anls", answer, *accepted) == pytest.approx(expected, abs=1e-12)


def test_anls_length_is_that_of_the_texts_as_written() -> None:
    assert score("anls", "a     b", "ac") == pytest.approx(1 - 2 / 7)
    assert score("anls(threshold=0.8)", "a     b", "ac") == 0.0
    assert score("anls(threshold=0)", "abc", "axy") == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The Two dogs.", "2 dogs"),
        ("dont", "don't"),
        ("It's", "it 's"),
        ("none", "0"),
        ("1,000", "1000"),
        ("well-known", "well known"),
        ("well- known", "well known"),
        ("3.5", "3.5"),
        ("U.S.A.", "usa"),
        ("end .5", "end .5"),
        ("yes/no", "yes no"),
        ("a", ""),
        ("somebody'd", "somebodyd"),
        ("y'alld've", "y'all'd've"),
        ("." * 40, "." * 8),  # the published code removes 32 full stops and no more
    ],
)
def test_vqa_text_is_normalised_as_evalai_does(text: str, normalised: str) -> None:
    assert normalise(text) == normalised


@pytest.mark.parametrize("rule", ["vqa", "textvqa"])
@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_soft_accuracy_leaves_each_of_ten_annotators_out_in_turn(rule: str, agreeing: int, expected: float) -> None:
    answers = ["red"] * agreeing + [f"other {n}" for n in range(10 - agreeing)]
    assert score(rule, "The red", *answers) == pytest.approx(expected, abs=1e-12)


def test_only_vqa_leaves_unanimous_annotators_unchanged() -> None:
    assert score("vqa", "Yes", *["Yes"] * 10) == 0.0
    assert score("textvqa", "Yes", *["Yes"] * 10) == 1.0
    assert score("vqa", "yes", *["Yes"] * 9, "no") == 1.0
    assert score("vqa", "one", *["1,5"] * 9, "no") == 0.0


@pytest.mark.parametrize(
    ("answer", "accepted", "expected"),
    [
        ("a cat, dogs and 3", "3; Cat; dogs", 1.0),
        ("red", "red", 1.0),
        ("red, red", "red", 1.0),
        ("red & blue", "blue|red", 1.0),
        ("red, blue", "red", 0.5),
        ("red, blue", "green, blue", 1 / 3),
        ("1,000, 2", "2, 1,000", 1.0),
        ("1,2,3", "3, 2, 1", 1.0),
        ("sandy", "s, y", 0.0),
        ("", "", 1.0),
        (", ,", "x", 0.0),
    ],
)
def test_list_compares_sets_of_items(answer: str, accepted: str, expected: float) -> None:
    assert score("list", answer, accepted) == pytest.approx(expected)


def test_regex_matches_the_whole_answer() -> None:
    assert score(r"regex(pattern='\d{4}')", "2020") == 1.0
    assert score(r"regex(pattern='\d{4}')", "in 2020") == 0.0
    assert score("regex", "Cat", "dog|cat") == 1.0
    assert score("regex(ignore_case=false)", "Cat", "cat") == 0.0


def test_an_endless_pattern_is_a_judge_error_in_time() -> None:
    started = time.monotonic()
    with pytest.raises(JudgeError, match="regex_timeout"):
        score("regex(pattern='(.*?,){22}P')", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25" * 40)
    assert time.monotonic() - started < 5


def half_for_cat(answer: str, accepted: list[str]) -> float:
    if answer == "boom":
        raise RuntimeError("boom")
    return 2.0 if answer == "two" else 0.5 * (answer in accepted)


def test_python_calls_your_function_and_names_its_failures() -> None:
    spec = 'python(function="tests.judges.test_rules:half_for_cat", correct_from=0.5)'

    def verdict(answer: str) -> tuple[str, tuple[str, ...]]:
        given = give_verdict(find_judge(spec), answer, ["cat"], finish_reason="stop", needs_marker=False)
        return given.outcome, given.flags

    assert verdict("cat") == ("correct", ())
    assert verdict("dog") == ("wrong", ())
    assert verdict("boom") == ("judge_error", ("python_error",))
    assert verdict("two") == ("judge_error", ("python_score",))
