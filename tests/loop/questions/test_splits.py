"""No image and no group in two splits, whatever the order of rows, and whatever is added later."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.splits import HELD_OUT, SPLITS, Key, SplitRow, Splits, drawn_split, strictest, wanted_shares

CONFIG = QuestionsConfig(source="jsonl", path="x", held_out_share=0.3, gate_share=0.3)

ROWS = st.lists(
    st.builds(
        SplitRow,
        where=st.just("row"),
        text=st.sampled_from("abcdefgh"),
        images=st.lists(st.sampled_from("123456789"), max_size=3),
        group=st.sampled_from([None, None, "x", "y", "z"]),
        split=st.sampled_from([None, None, None, None, *SPLITS]),
        stored=st.none(),
        labelled=st.just(True),
    ),
    max_size=12,
)


def assign(rows: Sequence[SplitRow], stored: dict[Key, str] | None = None) -> list[str] | None:
    """The rows' splits; None where one is refused."""
    splits = Splits(CONFIG, lambda key: {stored[key]} if stored and key in stored else set())
    try:
        for row in rows:
            splits.add(row)
        return [splits.split_of(row) for row in rows]
    except InputError:
        return None


def keys_in_two_splits(rows: Sequence[SplitRow], splits: Sequence[str]) -> list[Key]:
    found = defaultdict(set)
    for row, split in zip(rows, splits, strict=True):
        for key in row.ties:
            found[key].add(split)
    return [key for key, each in found.items() if len(each) > 1]


@given(ROWS)
def test_no_image_and_no_group_is_in_two_splits(rows: list[SplitRow]) -> None:
    splits = assign(rows)
    if splits is None:
        named = {row.split for row in rows if row.ties} - {None}
        assert len(named) > 1, "rows that name at most one split are never refused"
        return
    assert keys_in_two_splits(rows, splits) == []
    assert all(row.split in (None, split) for row, split in zip(rows, splits, strict=True))


@given(st.sampled_from(["group", "image", "text"]), st.text())
def test_a_draw_is_that_of_earlier_versions(kind: str, value: str) -> None:
    digest = hashlib.sha256(json.dumps((kind, value)).encode()).digest()
    fraction = int.from_bytes(digest[:8]) / 2**64
    expected = "test" if fraction < 0.3 else "gate" if fraction < 0.6 else "train"
    assert drawn_split((kind, value), CONFIG) == expected


@given(ROWS, st.data())
def test_the_order_of_rows_does_not_matter(rows: list[SplitRow], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    splits, shuffled = assign(rows), assign([rows[n] for n in order])
    assert (None if splits is None else [splits[n] for n in order]) == shuffled


@given(ROWS, ROWS)
def test_rows_that_are_added_later_move_no_earlier_one(earlier: list[SplitRow], later: list[SplitRow]) -> None:
    before = assign(earlier)
    if before is None:
        return
    placed = list(zip(earlier, before, strict=True))
    stored = {("image", image): split for row, split in placed for image in row.images}
    texts = defaultdict(set)
    for row, split in placed:
        if not row.images:
            texts[row.text].add(split)
    stored |= {("text", text): strictest(splits) or "" for text, splits in texts.items()}
    known = [SplitRow(row.where, row.text, row.images, row.group, row.split, split) for row, split in placed]
    assert assign(known, stored) == before, "the same file again changes nothing"
    after = assign([*known, *later], stored)
    if after is not None:
        assert after[: len(before)] == before
        assert keys_in_two_splits([*earlier, *later], after) == []


@given(ROWS)
def test_a_split_that_rows_name_themselves_gets_no_drawn_row(rows: list[SplitRow]) -> None:
    splits = assign(rows)
    named = {row.split for row in rows} & set(HELD_OUT)
    if splits is not None:
        tied = {key for row in rows if row.split for key in row.ties}
        texts = {row.text for row in rows if row.split and not row.ties}
        free = [row for row in rows if not row.split and not row.ties and row.text not in texts]
        assert not named & {split for row, split in zip(rows, splits, strict=True) if row in free}
        if not tied:
            assert not named & {split for row, split in zip(rows, splits, strict=True) if row.ties}


def row(line: int, images: str = "", split: str | None = None, **more: object) -> SplitRow:
    return SplitRow(f"f.jsonl, line {line}", f"q{line}", list(images), split=split, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "stored", "complaint"),
    [
        ([row(1, "a", "train"), row(2, "b", "test"), row(3, "ab")], {}, r"line 3: .*'train' by .*1, 'test' by .*2;"),
        ([row(1, "ab"), row(2, "a", "train"), row(3, "b", "test")], {}, r"line 3: .*'train' by .*2, 'test' by .*3;"),
        ([row(1, "a", "gate"), row(2, "b"), row(3, "bc"), row(4, "cab", "test")], {}, r"line 4: .*'gate' by .* 1"),
        ([row(1, "a", "test", group="g"), row(2, "b", "train", group="g")], {}, r"line 2: .* or group would be in two"),
        ([row(1, "a"), row(2, "ab")], {"a": "train", "b": "test"}, r"line 2: .*'train' by the run, 'test' by the run"),
        ([row(1, "a", "test")], {"a": "train"}, r"line 1: .*'train' by the run, 'test' by .*line 1; give rows"),
        ([row(1, "a", "test", stored="train")], {}, r"line 1: .*'train' in the run.*leave out its 'split'"),
        ([row(1, "a", "test"), row(2, "a", labelled=False)], {}, r"line 2: has no answer.*held out.*give it an answer"),
        ([row(1, "a", labelled=False)], {"a": "gate"}, r"line 1: has no answer, .*'gate' by the run"),
    ],
)
def test_rows_that_join_two_splits_are_refused_by_line(
    rows: list[SplitRow], stored: dict[str, str], complaint: str
) -> None:
    splits = Splits(CONFIG, lambda key: {stored[key[1]]} if key[1] in stored else set())
    with pytest.raises(InputError, match=complaint):
        _ = [splits.add(each) for each in rows], [splits.split_of(each) for each in rows]  # type: ignore[func-returns-value]


def test_what_has_no_answer_is_trained_on_and_so_is_its_image() -> None:
    rows = [row(n, str(n), labelled=labelled) for labelled in (True, False) for n in range(10)]
    assert assign(rows) == ["train"] * 20
    assert set(assign(rows[:10]) or []) > {"train"}


def test_a_group_of_many_images_is_drawn_by_its_name() -> None:
    for name in "abcdefgh":
        rows = [row(n, str(n), group=name) for n in range(5)]
        assert assign(rows) == [drawn_split(("group", name), CONFIG)] * 5


def test_an_image_in_several_old_splits_counts_as_trained_on() -> None:
    assert strictest(["test", "train", "gate"]) == "train"
    assert strictest(["test", "imported"]) == "train"
    assert strictest(["test"]) == "test"
    assert strictest([]) is None


def test_the_wanted_shares_are_whole() -> None:
    assert wanted_shares(CONFIG) == pytest.approx({"train": 0.4, "test": 0.3, "gate": 0.3})
    assert wanted_shares(CONFIG, {"test"}) == pytest.approx({"train": 0.7, "test": 0.0, "gate": 0.3})
    for shares in ({"held_out_share": 0.6, "gate_share": 0.4}, {"held_out_share": 0.97}):
        config = QuestionsConfig.model_validate({"source": "jsonl", "path": "x", **shares})
        splits, named, unnamed = Splits(config), row(1, "a", "test"), row(2, "b")
        splits.add(named)
        splits.add(unnamed)
        assert splits.split_of(named) == "test"
        with pytest.raises(InputError, match="below 1 together"):
            splits.split_of(unnamed)
