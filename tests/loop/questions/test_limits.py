"""Questions that a run cannot take are refused by their row, or kept as unusable, before anything is stored."""

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loop.config.load import parse_config
from loop.config.run_identity import record_run
from loop.config.schema import Config
from loop.errors import InputError
from loop.questions.ingest import add_file, ingest
from loop.questions.limits import Limits, longest_sequence
from loop.questions.registry import SOURCES
from loop.terminal.console import Console
from policies.encoding import Encoder, Prompt
from store import Store, open_store
from store.new_questions import NewQuestion, add_questions
from store.questions import candidate_questions
from store.unusable import unusable_questions
from tests.support.command_line import BASE_MODEL, copy_without

LONG = "word " * 2000


@lru_cache
def encoder() -> Encoder:
    return Encoder(str(BASE_MODEL), lambda name: Image.new("RGB", (64, 64)))


def config(path: Path = Path("x"), **tables: dict[str, Any]) -> Config:
    base: dict[str, dict[str, Any]] = {
        "policy": {"model": str(BASE_MODEL)},
        "questions": {"source": "jsonl", "path": str(path)},
        "teacher": {"enabled": False},
        "sampling": {"max_tokens": 32},
        "evaluation": {"max_tokens": 32},
        "engine": {"max_model_len": 256},
    }
    for table, values in tables.items():
        base.setdefault(table, {}).update(values)
    return parse_config(base, "test")


def write(folder: Path, *texts: str, name: str = "questions.jsonl") -> Path:
    """Rows of these texts, then one of split test."""
    rows = [{"question": text, "answer": "red", "split": "train"} for text in texts]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "split": "test"}]))
    return path


def ingested(folder: Path, settings: Config) -> Store:
    store = open_store(folder / "run", create=True) if (folder / "run").is_dir() else _new(folder)
    record_run(store, settings)
    ingest(store, settings, SOURCES["jsonl"], Console(quiet=True), encoder)
    return store


def _new(folder: Path) -> Store:
    (folder / "run").mkdir()
    return open_store(folder / "run", create=True)


def test_a_too_long_question_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    path = write(tmp_path, "what is it?", LONG)
    with pytest.raises(InputError, match=r"line 2: too long: .* tokens of prompt .*256.*engine\.max_model_len.*skip"):
        ingested(tmp_path, config(path))
    store = open_store(tmp_path / "run")
    assert store.value("SELECT count(*) FROM question") == 0
    store.close()


def test_with_skip_it_is_kept_with_its_reason_and_never_drawn(tmp_path: Path) -> None:
    path = write(tmp_path, "what is it?", LONG)
    store = ingested(tmp_path, config(path, questions={"too_long": "skip"}))
    assert [candidate[0] for candidate in candidate_questions(store, unanswered=True)] == [1]
    (reason,) = unusable_questions(store).values()
    assert reason.startswith("too long: ")
    assert "sampling.max_tokens = 32" in reason
    store.close()


def test_the_answer_counts_too(tmp_path: Path) -> None:
    path = write(tmp_path, "what is it?")
    with pytest.raises(InputError, match=r"sampling\.max_tokens = 250"):
        ingested(tmp_path, config(path, sampling={"max_tokens": 250}))


def test_without_max_model_len_the_models_own_limit_counts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than 512; shorten it, or keep"):
        ingested(tmp_path, config(write(tmp_path, LONG), engine={"max_model_len": None}))


def test_a_max_model_len_beyond_the_model_is_one_line() -> None:
    with pytest.raises(InputError, match=r"engine\.max_model_len = 513 is more than .* set it to 512 or less"):
        longest_sequence(config(engine={"max_model_len": 513}), encoder())


def test_added_rows_obey_the_same_limits(tmp_path: Path) -> None:
    settings = config(write(tmp_path, "what is it?"))
    store = ingested(tmp_path, settings)
    with pytest.raises(InputError, match="line 2: too long"):
        add_file(store, settings, write(tmp_path, "and now?", LONG, name="more.jsonl"), Console(quiet=True))
    assert store.value("SELECT count(*) FROM question") == 2
    skipping = config(tmp_path, questions={"too_long": "skip"})
    assert add_file(store, skipping, tmp_path / "more.jsonl", Console(quiet=True)) == 3
    assert len(unusable_questions(store)) == 1
    store.close()


def test_questions_that_the_store_has_are_not_refused_anew(tmp_path: Path) -> None:
    path = write(tmp_path, LONG, "what is it?")
    roomy = config(path)
    store = _new(tmp_path)
    record_run(store, roomy)
    add_questions(store, SOURCES["jsonl"](roomy.questions))  # as a version without limits stored them
    ingest(store, roomy, SOURCES["jsonl"], Console(quiet=True), encoder)
    assert add_file(store, roomy, path, Console(quiet=True)) == 0
    assert unusable_questions(store) == {}
    store.close()


def picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, format="PNG")
    return buffer.getvalue()


def new(text: str, *images: bytes, split: str = "train") -> NewQuestion:
    return NewQuestion(text, ["red"], images, split, "test", "exact", where="row 1")


def applied(settings: Config, store: Store, *questions: NewQuestion) -> list[NewQuestion]:
    return list(Limits(settings, encoder()).applied(questions, store))


def test_an_image_with_too_many_pixels_is_refused_undecoded(tmp_path: Path) -> None:
    store = _new(tmp_path)
    with pytest.raises(InputError, match=r"row 1: an image of 10000 x 10000 .*questions\.max_pixels"):
        applied(config(), store, new("what is it?", picture(10_000, 10_000)))
    roomy = config(questions={"max_pixels": 100})
    assert len(applied(roomy, store, new("what?", picture(10, 10)))) == 1
    with pytest.raises(InputError, match="more than 100"):
        applied(roomy, store, new("what?", picture(10, 10), picture(11, 10)))
    store.close()


def test_skip_does_not_take_an_image_of_too_many_pixels(tmp_path: Path) -> None:
    store = _new(tmp_path)
    with pytest.raises(InputError, match="max_pixels"):
        applied(config(questions={"too_long": "skip", "max_pixels": 4}), store, new(LONG, picture(9, 9)))
    store.close()


def test_more_pixels_than_pillow_opens_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match="max_pixels"):
        config(questions={"max_pixels": 200_000_000})


@pytest.fixture(scope="module")
def splitting(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """The shipped model's encoder where it cuts large images into parts: their tokens depend on their size."""
    folder = copy_without(tmp_path_factory.mktemp("splitting") / "model", "processor_config.json")
    content = json.loads((BASE_MODEL / "processor_config.json").read_text())
    content["image_processor"] |= {"do_image_splitting": True, "size": {"longest_edge": 256}}
    (folder / "processor_config.json").write_text(json.dumps(content))
    return Encoder(str(folder), lambda name: Image.new("RGB", (64, 64)))


def test_a_larger_image_that_is_split_has_more_tokens(splitting: Encoder) -> None:
    assert splitting.image_tokens(((64, 64),)) != splitting.image_tokens(((256, 64),))


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=3), st.text(max_size=40))
def test_image_tokens_are_counted_as_the_sampler_counts_them(
    splitting: Encoder, sizes: list[tuple[int, int]], text: str
) -> None:
    for own in (encoder(), splitting):
        images = {str(n): Image.new("RGB", size, (n, 9, 9)) for n, size in enumerate(sizes)}
        own.load_image = images.__getitem__
        prompt = Prompt(text, tuple(images))
        assert len(own.prompt_ids(prompt)) + own.image_tokens(tuple(sizes)) == len(own.expanded_prompt_ids(prompt))


@given(st.text(max_size=60) | st.sampled_from(["<image>" * 9, "<|assistant|>", "\ufdfa" * 5, "é" * 20, " " * 30]))
def test_the_estimate_from_bytes_is_never_below_the_tokens(text: str) -> None:
    limits = Limits(config(), encoder())
    bound = encoder().most_tokens(text)
    assert bound is not None
    prompt = Prompt(config().prompts.lay_out("cot", text))
    assert len(encoder().prompt_ids(prompt)) <= bound + limits._around("cot", 0)


@given(st.integers(0, 60), st.booleans(), st.integers(60, 512))
def test_a_question_passes_exactly_where_prompt_and_answer_fit(words: int, held_out: bool, room: int) -> None:
    settings = config(engine={"max_model_len": room}, questions={"too_long": "skip"})
    asked = new("what is it " * words + "?", picture(20, 30), split="test" if held_out else "train")
    sizes = ((20, 30),)
    prompt = Prompt(settings.prompts.lay_out("cot", asked.text), ("x",))
    tokens = len(encoder().prompt_ids(prompt)) + encoder().image_tokens(sizes)
    assert (Limits(settings, encoder())._too_long(asked, sizes) is None) == (tokens + 32 <= room)
