"""The store: whole transactions, no duplicates, loud about what is not its own."""

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base_model.scenes import draw_scene
from store import RunLocked, Store, StoreError, open_store, run_lock
from store.database import as_json, texts_as_json
from store.new_questions import NewQuestion, add_questions
from store.packing import pack_token_ids, unpack_token_ids
from store.questions import find_questions, image_bytes
from store.rounds import Policy, add_policy, start_round
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts
from tests.support.forked import Forked, until


def png(seed: int) -> bytes:
    import io
    import random

    buffer = io.BytesIO()
    draw_scene(random.Random(seed)).image.save(buffer, format="PNG")
    return buffer.getvalue()


def question(text: str = "what?", images: tuple[bytes, ...] = (), where: str = "row 1") -> NewQuestion:
    return NewQuestion(text, ["red"], images, "train", "test", "exact", where=where)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path, create=True)
    yield opened
    opened.close()


def test_questions_are_stored_once_and_images_once_by_hash(store: Store) -> None:
    image = png(1)
    assert add_questions(store, [question("a?", (image,)), question("b?", (image,)), question("a?", (image,))]) == 2
    assert add_questions(store, [question("a?", (image,))]) == 0
    assert store.value("SELECT count(*) FROM image") == 1
    found = find_questions(store, "text = ?", "b?")[0]
    assert image_bytes(store, found.images[0]) == (image, "png")


@pytest.mark.parametrize("broken", [b"", b"not an image", png(2)[:100]])
def test_a_broken_image_is_named_and_nothing_is_ingested(store: Store, broken: bytes) -> None:
    with pytest.raises(StoreError, match="row 7: the image cannot be read"):
        add_questions(store, [question("a?", (png(1),)), question("b?", (broken,), where="row 7")])
    assert store.value("SELECT count(*) FROM question") == 0
    assert store.value("SELECT count(*) FROM image") == 0


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50))
def test_token_ids_survive_packing(ids: list[int]) -> None:
    assert unpack_token_ids(pack_token_ids(ids)) == ids


def with_round(store: Store) -> None:
    add_questions(store, [question()])
    with store.transaction():
        add_policy(store, Policy(0, None, "base", "sha", "path", {}))
    start_round(store, 1, "sample", 0, [1])


def sample(index: int) -> NewSample:
    return NewSample(1, 1, "policy", 0, "cot", index, "text", [1, 2], "stop", -1.5, 3, 1.0)


def test_a_sample_cannot_be_written_twice(store: Store) -> None:
    with_round(store)
    with store.transaction():
        add_samples(store, [sample(0), sample(1)])
    with pytest.raises(sqlite3.IntegrityError), store.transaction():
        add_samples(store, [sample(2), sample(1)])
    assert store.value("SELECT count(*) FROM sample") == 2


def test_one_verdict_a_sample_and_judge_and_only_known_outcomes(store: Store) -> None:
    with_round(store)
    with store.transaction():
        add_samples(store, [sample(0)])
        add_verdicts(store, [NewVerdict(1, "exact", "1", "red", 1.0, "correct")])
    for verdict in (NewVerdict(1, "exact", "1", None, 0.0, "wrong"), NewVerdict(1, "other", "1", None, 0.0, "guess")):
        with pytest.raises(sqlite3.IntegrityError), store.transaction():
            add_verdicts(store, [verdict])
    with pytest.raises(sqlite3.IntegrityError), store.transaction():
        add_verdicts(store, [NewVerdict(99, "exact", "1", None, 0.0, "wrong")])


def test_opening_refuses_what_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no run"):
        open_store(tmp_path)
    (tmp_path / "store.db").write_bytes(b"hello, this is no database at all" * 50)
    with pytest.raises(StoreError, match=r"is damaged \(file is not a database\)"):
        open_store(tmp_path)
    (tmp_path / "store.db").unlink()
    other = sqlite3.connect(tmp_path / "store.db")
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(StoreError, match="another program"):
        open_store(tmp_path)


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    opened = open_store(tmp_path, create=True)
    with opened.transaction():
        opened.db.table("_sqlite_migrations").insert(
            {"id": 999, "migration_set": "ratchet", "name": "m999_future", "applied_at": "2999"}, alter=True
        )
    opened.close()
    with pytest.raises(StoreError, match=r"newer version.*m999_future"):
        open_store(tmp_path)


def test_a_reader_never_waits_for_the_writer(store: Store, tmp_path: Path) -> None:
    with_round(store)
    with store.transaction():
        add_samples(store, [sample(0)])
        reader = open_store(tmp_path)
        assert reader.value("SELECT count(*) FROM sample") == 0
        reader.close()


def hold_lock(run_dir: Path) -> None:
    with run_lock(run_dir):
        print("held", flush=True)
        time.sleep(60)


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    holder = Forked(hold_lock, tmp_path)
    until(lambda: holder.stdout() == "held\n", holder)
    with pytest.raises(RunLocked, match=f"process {holder.pid}"), run_lock(tmp_path):
        pass
    holder.kill()
    with run_lock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


@given(st.lists(st.text()))
def test_a_list_of_texts_has_the_json_that_is_hashed(texts: list[str]) -> None:
    assert texts_as_json(texts) == as_json(texts)
