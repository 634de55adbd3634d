"""`inspect`: what the model will see, before a run."""

import html
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import find_judge
from loop.questions.prompt_view import spread, verdict_on_accepted
from policies.encoding import Encoder, Prompt
from tests.support.command_line import BASE_MODEL, SMALL_ENGINE, run_command
from tests.support.scene_sets import solid, write_scenes


def recipe(folder: Path, data: Path, engine: str = SMALL_ENGINE, style: str = "direct") -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        f'[policy]\nmodel = "{BASE_MODEL}"\ndtype = "float32"\n[teacher]\nenabled = false\n'
        f'[sampling]\nstyle = "{style}"\nmax_tokens = 16\nsamples = 4\n[evaluation]\nmax_tokens = 8\n'
        f'[questions]\nsource = "datasets"\npath = "{data}"\n'
        'columns = { question = "question", answer = "answer", images = "image", kind = "kind" }\n' + engine
    )
    return path


def rows(folder: Path, *given: dict[str, Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(given)), folder / "rows.parquet")
    return folder / "rows.parquet"


def test_lengths_are_those_that_the_model_reads(tmp_path: Path) -> None:
    words = ["red", "blue shape", "is there a green circle or a red one in this image"]
    data = rows(
        tmp_path,
        *({"question": words[n % 3], "answer": "red", "image": solid(n), "kind": "k"} for n in range(90)),
    )
    found = json.loads(run_command("inspect", recipe(tmp_path, data), "--json").stdout)
    from PIL import Image

    encoder = Encoder(str(BASE_MODEL), lambda _: Image.new("RGB", (4, 4)))
    expected = [len(encoder.expanded_prompt_ids(Prompt(f"{text}\nGive a short answer.", ("0",)))) for text in words]
    assert {each["style"] for each in found["lengths"]} == {"direct"}
    for each in found["lengths"]:
        if each["split"] != "train":  # too few rows to have the longest among them
            assert each["max_tokens"] == 8
            continue
        tokens = [each["prompt"]["most"] + each["images"]["most"], each["whole"]["most"] - each["max_tokens"]]
        assert tokens == [max(expected)] * 2
        assert each["max_tokens"] == 16
        assert each["prompt"]["p50"] + each["images"]["p50"] == sorted(expected)[1]
        assert each["answer"]["most"] == len(encoder.completion_ids("red"))
    assert sum(each["questions"] for each in found["lengths"]) == 90
    assert sum(each["questions"] for each in found["answers"]) == 90
    assert found["room"] == 256
    assert {each["verdict"] for each in found["examples"]} == {"correct"}


def test_what_does_not_fit_is_counted_and_not_refused(tmp_path: Path) -> None:
    long = "red circle " * 60
    given = [
        {"question": f"{n} {long if n % 4 == 0 else ''}", "answer": "x", "image": solid(n), "kind": "k"}
        for n in range(80)
    ]
    engine = SMALL_ENGINE.replace("256", "64")
    done = run_command("inspect", recipe(tmp_path, rows(tmp_path, *given), engine), "--examples", 0)
    assert "20 questions are too long and would not be asked" in done.stdout
    found = json.loads(run_command("inspect", recipe(tmp_path, rows(tmp_path, *given), engine), "--json").stdout)
    assert sum(each["too_long"] for each in found["lengths"]) == found["unusable"] == 20


def test_answers_are_told_by_kind_and_split(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "scenes.parquet", 200)
    found = json.loads(run_command("inspect", recipe(tmp_path, data), "--json").stdout)
    train = {each["kind"]: each for each in found["answers"] if each["split"] == "train"}
    assert train.keys() == {"color", "shape", "yes/no", "negated yes/no"}
    assert train["shape"]["different"] == 3
    assert {answer for answer, _ in train["yes/no"]["common"]} == {"yes", "no"}


def test_the_page_shows_pictures_and_escapes_everything(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\u202e\x1b[31m{{ 7 * 7 }}"
    given = [{"question": f"{evil} {n}", "answer": evil, "image": solid(n), "kind": "<b>k</b>"} for n in range(400)]
    page = tmp_path / "page.html"
    done = run_command("inspect", recipe(tmp_path, rows(tmp_path, *given)), "--html", page)
    text = page.read_text()
    assert "<script" not in text
    assert "<b>k" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7 * 7 }}" in html.unescape(text)
    assert text.count("data:image/png;base64,") == 6
    assert "default-src 'none'" in html.unescape(text)
    assert "\x1b[31m" not in done.stdout
    assert "\u202e" not in done.stdout


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "scenes.parquet", 40)
    path = recipe(tmp_path, data)
    for arguments, said in (
        (("nosuch",), "no such configuration or file"),
        (
            (path, "--html", tmp_path / "gone" / "page.html"),
            f"--html {tmp_path}/gone/page.html: {tmp_path}/gone is no directory; make it first",
        ),
        ((path, "--set", "questions.columns.answer=anwser"), "did you mean 'answer'?"),
    ):
        done = run_command("inspect", *arguments, check=2)
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.heavy
def test_the_pass_rate_is_that_of_the_model_as_it_is(tmp_path: Path) -> None:
    """The shipped model tells colours and shapes; it was never asked whether there is no blue shape."""
    data = write_scenes(tmp_path / "scenes.parquet", 400)
    page = tmp_path / "page.html"
    arguments = ("inspect", recipe(tmp_path, data), "--sample", 40, "--html", page, "--examples", 1)
    first = json.loads(run_command(*arguments, "--json").stdout)["pass_rate"]
    assert (first["questions"], first["samples"], first["style"]) == (40, 160, "direct")
    assert 0.4 < first["pass_rate"] < 0.98
    assert first["all_right"] + first["mixed"] + first["none_right"] == pytest.approx(1.0)
    assert sum(right for _, right, _, _ in first["answers"]) == round(first["pass_rate"] * 160)
    assert "The model as it is" in page.read_text()
    again = json.loads(run_command(*arguments, "--json").stdout)["pass_rate"]
    assert again["pass_rate"] == first["pass_rate"]


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=300))
def test_a_percentile_is_the_smallest_sufficient_number(values: list[int]) -> None:
    found = spread(values)
    for share, number in ((0.5, found.p50), (0.99, found.p99), (1.0, found.most)):
        assert sum(value <= number for value in values) >= share * len(values)
        assert number in values
        assert number == min(values) or sum(value < number for value in values) < share * len(values)


@pytest.mark.parametrize(
    ("judge", "answers", "choices", "style", "outcome"),
    [
        ("exact", ["red"], [], "cot", "correct"),
        ("exact", ["red"], [], "direct", "correct"),
        ("choice", ["B"], ["x", "y"], "cot", "correct"),
        ("textvqa", ["stop"] * 6 + ["shop"] * 4, [], "cot", "correct"),
        ("exact(markers = ['boxed'])", ["red"], [], "cot", "correct"),
        ("exact(markers = ['tag'])", ["red"], [], "cot", "correct"),
        ("preference", ["1"], [], "cot", "correct"),
        ("regex(pattern = '[0-9]+')", ["red"], [], "cot", "wrong"),
        ("llm", ["red"], [], "cot", ""),
    ],
)
def test_the_accepted_answer_itself_is_judged(
    judge: str, answers: list[str], choices: list[str], style: str, outcome: str
) -> None:
    assert verdict_on_accepted(find_judge(judge), answers, choices, style)[1] == outcome
