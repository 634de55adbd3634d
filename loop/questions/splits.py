"""Assigns questions to splits: train, gate or test. Held-out questions share no image with trained ones.

Rows that share an image or a group stay together. Such a set of rows has one split: the one that a row of
it names, or the one that its image has in the run, or a drawn one. The draw is a hash of the set's smallest
group, else of its smallest image; of a row with neither, a hash of its text. So the order of rows does not matter.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import NamedTuple

from loop.config.questions import QuestionsConfig
from loop.errors import InputError

SPLITS = ("train", "gate", "test")
HELD_OUT = ("gate", "test")

Key = tuple[str, str]
"""What ties rows together: ("group", its name), ("image", its digest) or ("text", the question's text)."""

Stored = Callable[[Key], Collection[str]]
"""The splits that a run has a key's questions in."""


def wanted_shares(config: QuestionsConfig, closed: Collection[str] = ()) -> dict[str, float]:
    """Split -> its share of the rows that name none; a closed split gets none, `train` has what is left."""
    shares = {"test": config.held_out_share, "gate": config.gate_share}
    open_shares = {split: 0.0 if split in closed else share for split, share in shares.items()}
    return {"train": 1.0 - sum(open_shares.values()), **open_shares}


def drawn_split(key: Key, config: QuestionsConfig, closed: Collection[str] = ()) -> str:
    """The split by a hash of the key, with the configuration's shares; `train` in place of a closed one.

    Raises InputError where the shares leave nothing to train on; a run that names every split may have such shares.
    """
    if config.held_out_share + config.gate_share >= 1.0:
        raise InputError(
            "questions.held_out_share and questions.gate_share must be below 1 together: the rest is trained on"
        )
    # As json.dumps writes the key, in a fifth of the time; runs keep the splits that they began with.
    as_json = f'["{key[0]}", {encode_basestring_ascii(key[1])}]'
    fraction = int.from_bytes(hashlib.sha256(as_json.encode()).digest()[:8]) / 2**64
    split = "train"
    if fraction < config.held_out_share:
        split = "test"
    elif fraction < config.held_out_share + config.gate_share:
        split = "gate"
    return "train" if split in closed else split


def strictest(splits: Collection[str]) -> str | None:
    """The split that an image in several splits counts for: `train` if it is among them, else the first of `SPLITS`.

    Runs of older versions have such images. An imported pair is trained on too.
    """
    found = {split if split in HELD_OUT else "train" for split in splits}
    return next((split for split in SPLITS if split in found), None)


class SplitRow(NamedTuple):
    """The parts of a row that decide its split. `images` are digests; `split` is the one that the row names itself.

    `stored` is the split in which the run has this same question. A row that is not `labelled` is only trained on.
    """

    where: str
    text: str
    images: Sequence[str] = ()
    group: str | None = None
    split: str | None = None
    stored: str | None = None
    labelled: bool = True

    @property
    def ties(self) -> list[Key]:
        """The keys that it shares with other rows; a row without image and group has none."""
        # A question that the run has stays as it is; it only says where the rest of its group belongs.
        images = () if self.stored else self.images
        groups = [] if self.group is None else [self.group]
        return [*(("group", group) for group in groups), *(("image", digest) for digest in images)]


@dataclass
class _Tied:
    """Rows that stay together."""

    smallest: Key
    fixed: tuple[str, str] | None = None
    """The split that a row or the run gives them, and which of them does."""
    unlabelled: bool = False


class Splits:
    """The splits of a source's rows: `add` every row, then ask `split_of` each. It keeps keys, no rows and no images.

    `stored` gives the splits that the run, if there is one, has a key's questions in.
    """

    def __init__(self, config: QuestionsConfig, stored: Stored = lambda _: ()) -> None:
        self._config, self._stored = config, stored
        self._parents: dict[Key, Key] = {}
        self._tied: dict[Key, _Tied] = {}
        self._texts: dict[str, str] = {}
        self.closed: set[str] = set()
        """Held-out splits that rows name themselves: no row is drawn into them."""

    def add(self, row: SplitRow) -> None:
        """Take note of a row. Raises InputError naming it if it ties together rows of two splits."""
        if row.stored and row.split and row.stored != row.split:
            raise InputError(
                f"{row.where}: this question is of split {row.stored!r} in the run, not {row.split!r}; leave out its"
                " 'split', or begin a new run"
            )
        if row.split in HELD_OUT:
            self.closed.add(row.split)
        fixed = row.split or row.stored
        if row.ties:
            self._tie(row, fixed)
        elif not row.images:
            self._note_text(row, fixed)

    def is_drawn(self, row: SplitRow) -> bool:
        """Whether neither a row nor the run decides the split of a row that was added."""
        if row.split or row.stored or not row.ties:
            return False
        return self._tied[self._root(row.ties[0])].fixed is None

    def split_of(self, row: SplitRow) -> str:
        """The split of a row that was added. Raises InputError naming one without answer if that is held out."""
        split = row.split or row.stored
        if split:
            return split
        if not row.ties:
            known = self._texts.get(row.text)
            return known or drawn_split(("text", row.text), self._config, self.closed)
        first = row.ties[0]
        if first not in self._parents:
            raise InputError(f"{row.where}: it, or its image, was changed while it was read; try again")
        tied = self._tied[self._root(first)]
        if tied.fixed is None:
            return "train" if tied.unlabelled else drawn_split(tied.smallest, self._config, self.closed)
        split, fixed_by = tied.fixed
        if not row.labelled and split != "train":
            raise InputError(
                f"{row.where}: has no answer, but its image or group is held out (split {split!r} by {fixed_by}); give"
                " it an answer, or leave the row out"
            )
        return split

    def _note_text(self, row: SplitRow, fixed: str | None) -> None:
        # Rows of one text may name two splits: they may still differ, in their choices for example.
        named = [split for split in (fixed, self._texts.get(row.text)) if split]
        if split := strictest([*named, *self._stored(("text", row.text))] if row.labelled else ["train"]):
            self._texts[row.text] = split

    def _tie(self, row: SplitRow, split: str | None) -> None:
        roots = list(dict.fromkeys(self._root_of(key) for key in row.ties))
        parts = [self._tied[root] for root in roots]
        fixed = [part.fixed for part in parts if part.fixed] + ([(split, row.where)] if split else [])
        if other := next((each for each in fixed if each[0] != fixed[0][0]), None):
            raise InputError(
                f"{row.where}: its images or group would be in two splits: {fixed[0][0]!r} by {fixed[0][1]},"
                f" {other[0]!r} by {other[1]}; give rows that share an image or group one split, or leave this row out"
            )
        for root in roots[1:]:
            self._parents[root] = roots[0]
            del self._tied[root]
        self._tied[roots[0]] = _Tied(
            smallest=min(part.smallest for part in parts),
            fixed=fixed[0] if fixed else None,
            unlabelled=not row.labelled or any(part.unlabelled for part in parts),
        )

    def _root_of(self, key: Key) -> Key:
        """The root of the rows that have this key, which may be new."""
        if key not in self._parents:
            self._parents[key] = key
            split = strictest(self._stored(key))
            self._tied[key] = _Tied(key, (split, "the run") if split else None)
        return self._root(key)

    def _root(self, key: Key) -> Key:
        while (parent := self._parents[key]) != key:
            self._parents[key] = key = self._parents[parent]
        return key
