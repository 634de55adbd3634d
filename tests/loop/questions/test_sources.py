"""Question sources: easy-VQA with its annotations, and your own JSONL files."""

import hashlib
import json
import os
import re
from itertools import islice
from pathlib import Path

import pytest

from judges import find_judge, give_verdict
from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.sources import easy_vqa, jsonl

CONFIG = QuestionsConfig(source="jsonl", path="questions.jsonl")


def test_easy_vqa_has_its_own_test_split_and_fixed_train_part() -> None:
    config = QuestionsConfig(source="easy_vqa", train_limit=50)
    rows = list(easy_vqa.read_questions(config))
    splits = [row.split for row in rows]
    assert splits.count("test") + splits.count("gate") == 9673
    assert 0.2 < splits.count("gate") / 9673 < 0.3
    reported, decisive = ({row.images[0] for row in rows if row.split == name} for name in ("test", "gate"))
    assert not reported & decisive
    assert [row.split for row in rows].count("train") == 50
    assert rows == list(easy_vqa.read_questions(config))
    test_images = {row.images[0] for row in rows if row.split == "test"}
    assert not test_images & {row.images[0] for row in rows if row.split == "train"}


def test_easy_vqas_rows_are_those_of_earlier_versions() -> None:
    digest = hashlib.sha256()
    splits: dict[str, set[str]] = {}
    for row in easy_vqa.read_questions(QuestionsConfig(source="easy_vqa")):
        told = [row.text, row.answers, row.digests, row.split, row.source, row.judge, row.kind, row.external_id]
        digest.update((json.dumps([*told, row.where]) + "\n").encode())
        for image in row.digests:
            splits.setdefault(image, set()).add(row.split)
    assert digest.hexdigest() == "b8ddf1f56f956798c61be7b491b31819365792ebbb67cd1d12e8bb63087938e3"
    assert all(len(each) == 1 for each in splits.values())


def test_rationales_describe_the_image_and_end_in_the_answer() -> None:
    written = 0
    for row in easy_vqa.read_questions(QuestionsConfig(source="easy_vqa", train_limit=300)):
        digest = hashlib.sha256(row.images[0]).hexdigest()
        text = easy_vqa.write_rationale(row.text, row.answers[0], [digest])
        if text is None:
            continue
        written += 1
        shape, color = easy_vqa.annotations()[digest]
        assert f"{color} {shape}" in text
        verdict = give_verdict(find_judge("exact"), text, row.answers, finish_reason="stop", needs_marker=True)
        assert verdict.outcome == "correct", (row.text, text)
        if row.answers[0] in ("yes", "no"):
            negated = " not " in row.text or " no " in row.text
            assert ("There is a " in text) == ((row.answers[0] == "yes") != negated), (row.text, text)
    assert written > 8000


def write(folder: Path, *rows: object) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_the_stand_in_fails_alone_only_on_negated_questions() -> None:
    seen = {"right": 0, "negated": 0}
    for row in islice(easy_vqa.read_questions(QuestionsConfig(source="easy_vqa")), 400):
        digest = hashlib.sha256(row.images[0]).hexdigest()
        text = easy_vqa.write_rationale(row.text, None, [digest])
        if text is None:
            continue
        verdict = give_verdict(find_judge("exact"), text, row.answers, finish_reason="stop", needs_marker=True)
        negated = not row.text.startswith("what") and re.search(r"\b(?:not|no)\b", row.text) is not None
        assert (verdict.outcome == "correct") is not negated, (row.text, row.answers, text)
        seen["negated" if negated else "right"] += 1
    assert min(seen.values()) > 50


def test_jsonl_rows_become_questions(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"bytes")
    path = write(
        tmp_path,
        {"question": "what?", "answer": "cat", "images": ["cat.png"], "id": 7, "split": "test"},
        "",
        {"question": "how many?", "answers": [3, "three"]},
    )
    first, second = jsonl.read_file(path, CONFIG)
    assert (first.answers, first.images, first.external_id, first.split) == (["cat"], [b"bytes"], "7", "test")
    assert (second.answers, second.judge) == (["3", "three"], "exact")
    assert second.split in ("train", "test")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object"),
        ({"question": "q", "answer": "a", "anwser": 1}, "unknown key 'anwser'"),
        ({"answer": "a"}, "'question' must be"),
        ({"question": "  ", "answer": "a"}, "'question' must be"),
        ({"question": "q"}, "needs 'answer'"),
        ({"question": "q", "answer": "a", "answers": ["b"]}, "not both"),
        ({"question": "q", "answers": []}, "at least one"),
        ({"question": "q", "answer": ""}, "every answer"),
        ({"question": "q", "answer": None}, "every answer"),
        ({"question": "q", "answer": "a", "images": "x.png"}, "list of paths"),
        ({"question": "q", "answer": "a", "images": ["no.png"]}, "cannot be read"),
        ({"question": "q", "answer": "a", "images": ["../secret.png"]}, "outside"),
        ({"question": "q", "answer": "a", "images": ["/etc/hostname"]}, "outside"),
        ({"question": "q", "answer": "a", "split": "dev"}, "'split' must be"),
        ({"question": "q", "answer": "a", "group": True}, "'group' must be"),
        ({"question": "q", "answer": "a", "group": " "}, "'group' must be"),
        ({"question": "q", "answer": "a", "group": ["a"]}, "'group' must be"),
        ({"question": "q", "answer": "a", "judge": "vibes"}, "judge 'vibes' is unknown"),
        ({"question": "q", "answer": "a", "judge": 7}, "'judge' must be a text"),
        ({"question": "q", "answer": "a", "judge": "numeric(relative='x')"}, "must be a number"),
        ({"question": "q", "answer": "a", "judge": "vqa"}, "one an annotator"),
        ({"question": "q", "answer": "(", "judge": "regex"}, "is not a regular expression"),
        ({"question": "q", "answer": "a", "judge": "python(function='os:system')"}, "name it in the recipe"),
        ({"question": "q", "answer": "a", "judge": " python (function='os:system')"}, "name it in the recipe"),
        ({"question": "q", "answer": "a", "choices": "ab"}, "'choices' must be a list"),
        ({"question": "q", "answer": "a", "choices": [""]}, "'choices' must be a list"),
    ],
)
def test_a_bad_row_is_named_by_line(tmp_path: Path, row: object, complaint: str) -> None:
    path = write(tmp_path, {"question": "fine", "answer": "a"}, row)
    with pytest.raises(InputError, match="line 2") as caught:
        list(jsonl.read_file(path, CONFIG))
    assert complaint in str(caught.value)


def test_a_row_may_bring_its_judge_with_options_and_its_choices(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "B", "choices": ["x", "y"], "judge": " choice( correct_from = 1 ) "}
    (question,) = jsonl.read_file(write(tmp_path, row), CONFIG)
    assert (question.judge, question.choices) == ("choice", ["x", "y"])
    recipe = QuestionsConfig(source="jsonl", path="x", judge="python(function='operator:contains')")
    (question,) = jsonl.read_file(write(tmp_path, {"question": "q", "answer": "a"}), recipe)
    assert question.judge == 'python(function="operator:contains")'


def test_unlabelled_rows_are_optional_and_never_held_out(tmp_path: Path) -> None:
    recipe = QuestionsConfig(source="jsonl", path="x", unlabelled=True, held_out_share=0.9)
    rows = [{"question": f"q{n}"} for n in range(20)]
    read = list(jsonl.read_file(write(tmp_path, *rows, {"question": "q", "answer": "a"}), recipe))
    assert {(tuple(row.answers), row.split) for row in read[:-1]} == {((), "train")}
    assert read[-1].answers == ["a"]
    with pytest.raises(InputError, match="a held-out question needs an answer"):
        list(jsonl.read_file(write(tmp_path, {"question": "q", "split": "test"}), recipe))
    with pytest.raises(InputError, match="at least one"):
        list(jsonl.read_file(write(tmp_path, {"question": "q", "answers": []}), recipe))


def test_an_image_link_may_not_leave_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"x")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link.png").symlink_to(outside)
    path = write(folder, {"question": "q", "answer": "a", "images": ["link.png"]})
    with pytest.raises(InputError, match="outside"):
        list(jsonl.read_file(path, CONFIG))


def test_empty_or_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no questions"):
        list(jsonl.read_file(write(tmp_path, ""), CONFIG))
    with pytest.raises(InputError, match="cannot be read"):
        list(jsonl.read_file(tmp_path / "nosuch.jsonl", CONFIG))


def test_question_kinds_and_faithfulness_are_read_from_words() -> None:
    digest = next(iter(easy_vqa.annotations()))
    shape, color = easy_vqa.annotations()[digest]
    other = next(s for s in easy_vqa.SHAPES if s != shape)
    assert easy_vqa.is_faithful(f"The image shows a {color} {shape}. So it is.", [digest]) is True
    assert easy_vqa.is_faithful(f"The image shows a {color} {other}. There is a {shape}.", [digest]) is False
    assert easy_vqa.is_faithful(f"### Answer: {color}", [digest]) is False
    assert easy_vqa.is_faithful(f"The image shows a {color} {shape}.", ["unknown"]) is None
    kinds = [
        easy_vqa.question_kind(text)
        for text in ("what color is it?", "what shape is it?", "is a circle present?", "is there not a circle?")
    ]
    assert kinds == ["color", "shape", "yes/no", "negated yes/no"]


def test_rows_without_a_split_are_drawn_and_rows_may_name_one(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"held_out_share": 0.2, "gate_share": 0.2})
    rows = [{"question": f"{n}?", "answer": "x", "kind": "easy"} for n in range(400)]
    read = list(jsonl.read_file(write(tmp_path, *rows), config))
    counts = [sum(row.split == split for row in read) for split in ("test", "gate", "train")]
    assert all(50 < count < 120 for count in counts[:2])
    assert {row.kind for row in read} == {"easy"}
    named = list(jsonl.read_file(write(tmp_path, *rows, {"question": "n", "answer": "x", "split": "gate"}), config))
    assert [row.text for row in named if row.split == "gate"] == ["n"]
    assert [row.split for row in named if row.split == "test"] == ["test"] * counts[0]


def test_line_separators_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    text = "one\u2028two\u0085three\u2029four\x0bfive"
    row = json.dumps({"question": text, "answer": "1"}, ensure_ascii=False)
    file = tmp_path / "questions.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + f"{row}\r\n{row.replace('one', 'another')}\n".encode())
    assert [each.text for each in jsonl.read_file(file, CONFIG)] == [text, text.replace("one", "another")]


@pytest.mark.parametrize("name", ["pipe", "circle", "folder", "a\0b", "none.png"])
def test_a_path_that_is_no_image_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "folder").mkdir()
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"question": "what?", "answer": "1", "images": [name]}))
    with pytest.raises(InputError, match=r"questions.jsonl, line 1: image .* (is no regular file|cannot be read)"):
        list(jsonl.read_file(file, CONFIG))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"question": "q", "answer": "1", "x": ' + "[" * 100_000, "not JSON"),
        ('{"question": "a\\ud800b", "answer": "1"}', "half of a surrogate pair"),
        ('{"question": "q", "answer": "\\udfff"}', "half of a surrogate pair"),
        (json.dumps({"question": "q", "answer": "1", "judge": "exact(" + "[" * 50_000}), "characters, 4,000 at most"),
        (
            json.dumps({"question": "q", "answer": "1", "judge": f"exact(a = {'[' * 1900}{']' * 1900})"}),
            "write options as",
        ),
        (
            json.dumps({"question": "q", "answer": "1", "judge": f"regex(pattern = '{'(' * 1900}{')' * 1900}')"}),
            "nested",
        ),
        (json.dumps({"question": "q", "answer": "(" * 20_000 + ")" * 20_000, "judge": "regex"}), "nested too deeply"),
    ],
)
def test_a_row_that_breaks_a_parser_is_refused_in_a_line(tmp_path: Path, row: str, said: str) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(row)
    with pytest.raises(InputError, match=rf"questions.jsonl, line 1: .*{said}"):
        list(jsonl.read_file(file, CONFIG))
