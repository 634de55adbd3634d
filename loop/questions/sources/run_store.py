"""Preferences made from another run's store, which is only read.

- `answer`: two chains of one question, one judged `correct` and one `wrong`.
- `reasons`: two chains with the same right answer, where the run's source can check what they say they see; better is
  the one that says what is there. Else a judge would only solve the question again.
- `generation`: two images, where the run's source has captions; better is the one that the caption is of.

Every question gives at most `questions.preferences_per_question` rows of each of the first two tasks, from the latest
round that has one, and every image as many of the third. Rows that share an image are of one split.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from itertools import combinations, islice, product
from pathlib import Path
from typing import Any

from loop.config.questions import QuestionsConfig
from loop.errors import InputError
from loop.questions.preferences import JUDGE, Preference
from loop.questions.sources import easy_vqa
from loop.questions.splits import SplitRow, Splits
from loop.reporting import Reporter
from store import Store, StoreError, open_store
from store.new_questions import NewQuestion
from store.pairs import judged_by_question
from store.questions import Question, questions_by_id, train_images
from store.samples import sampled_rounds

SOURCE = "store"
Faithful = Callable[[str, list[str]], bool | None]
"""(chain, image digests) -> whether it says what is there; None where nobody knows."""
FAITHFUL: dict[str, Faithful] = {"easy_vqa": easy_vqa.is_faithful}
"""Sources whose chains can be checked against the image."""
CAPTIONS: dict[str, Callable[[str], str | None]] = {"easy_vqa": easy_vqa.caption}
"""Sources that know what an image shows, by its digest."""
FITS = "Which image shows {}?"


def read_questions(config: QuestionsConfig, reporter: Reporter | None = None) -> Iterator[NewQuestion]:
    """Both orders of every preference. Raises InputError where the store cannot be read or has none."""
    assert config.path is not None
    run_dir = Path(config.path)
    try:
        with closing(open_store(run_dir, read_only=True)) as store:
            rows = list(_preferences(store, config.preferences_per_task, config.preferences_per_question, reporter))
    except StoreError as error:
        raise InputError(f"questions.path: {error}") from error
    if not rows:
        raise InputError(
            f"questions.path: {run_dir} has no question with a right and a wrong chain; run it for a round"
        )
    random.Random("preferences").shuffle(rows)  # `evaluation.limit` takes the first ones: of every task some
    splits = Splits(config)
    keys = [_split_row(task, row, n) for n, (task, row) in enumerate(rows)]
    for key in keys:
        splits.add(key)
    return (
        NewQuestion(
            text=each.text,
            answers=[each.answer],
            images=each.images,
            split=splits.split_of(key),
            source=SOURCE,
            judge=JUDGE,
            where=key.where,
            kind=task,
            unit=row.unit,
            split_from="draw",
        )
        for key, (task, row) in zip(keys, rows, strict=True)
        for each in row.in_both_orders(config.preference_layout)
    )


def _split_row(task: str, row: Preference, number: int) -> SplitRow:
    first, _ = row.in_both_orders("{question}{first}{second}")
    digests = NewQuestion("", [], first.images, "", SOURCE, JUDGE).digests
    return SplitRow(where=f"{task} preference {number + 1}", text=row.question, images=digests)


def _preferences(store: Store, most: int, each: int, reporter: Reporter | None) -> Iterator[tuple[str, Preference]]:
    """(task, row), at most `most` of a task and `each` of a question; its chains are drawn from the question's id."""
    source = store.value("SELECT source FROM question LIMIT 1")
    faithful, caption = FAITHFUL.get(source), CAPTIONS.get(source)
    wanted, used = {"answer": most, "reasons": most if faithful else 0}, set[int]()
    rounds = list(reversed(sampled_rounds(store)))
    with reporter.bar("reading rounds", len(rounds), "round") if reporter else nullcontext() as bar:
        for number in rounds:
            if not any(wanted.values()):
                break
            groups = {question: rows for question, rows in judged_by_question(store, number) if question not in used}
            for question in questions_by_id(store, set(groups)).values():
                for task, row in _of_question(store, question, groups[question.id], faithful, each):
                    if wanted[task]:
                        wanted[task] -= 1
                        used.add(question.id)
                        yield task, row
            if bar:
                bar.update()
    if caption is not None:
        yield from (("generation", row) for row in _captioned(store, caption, most, each))


def _of_question(
    store: Store, question: Question, rows: list[Any], faithful: Faithful | None, most: int
) -> Iterator[tuple[str, Preference]]:
    """The preferences from one question: right chains against wrong ones, and faithful ones against lucky ones."""
    rng = random.Random(f"preference:{question.id}")
    right, wrong = (_texts(rows, outcome) for outcome in ("correct", "wrong"))
    images = [_image(store, digest) for digest in question.images] if right else []
    for better, worse in _some_of(product(right, wrong), most, rng):
        yield "answer", _row(question.text, better, worse, images, rng)
    seen = {text: faithful(text, list(question.images)) for text in right} if faithful else {}
    true, false = ([text for text, each in seen.items() if each is known] for known in (True, False))
    for better, worse in _some_of(product(true, false), most, rng):
        yield "reasons", _row(question.text, better, worse, images, rng)


def _some_of(pairs: Iterable[tuple[str, str]], most: int, rng: random.Random) -> list[tuple[str, str]]:
    known = list(pairs)
    return rng.sample(known, min(most, len(known)))


def _row(question: str, better: str, worse: str, images: list[bytes], rng: random.Random) -> Preference:
    place = rng.randrange(2)
    candidates = (better, worse) if place == 0 else (worse, better)
    return Preference(question, candidates, place, images, ([], []))


def _captioned(store: Store, caption: Callable[[str], str | None], most: int, each: int) -> Iterator[Preference]:
    """Two images that differ, and the caption of one; none that is held out in that run.

    Images are put into groups of one more than `each`, and every two of a group meet: so an image comes `each` times,
    and no more images than these must be of one split.
    """
    known = [(digest, caption(digest)) for digest in train_images(store)]
    rng = random.Random("preference:generation")
    waiting = [(digest, text) for digest, text in known if text is not None]
    rng.shuffle(waiting)
    groups = [waiting[start : start + each + 1] for start in range(0, len(waiting), each + 1)]
    meetings = (pair for group in groups for pair in combinations(group, 2))
    for (first, text), (second, other) in islice((pair for pair in meetings if pair[0][1] != pair[1][1]), most):
        better = rng.randrange(2)
        images = ([_image(store, first)], [_image(store, second)])
        yield Preference(FITS.format(other if better else text), ("", ""), better, [], images)


def _texts(rows: Iterable[Any], outcome: str) -> list[str]:
    """The different texts with an outcome, each on one line, in the order of their samples."""
    return list(dict.fromkeys(on_one_line(row["text"]) for row in rows if row["outcome"] == outcome))


def on_one_line(text: str) -> str:
    """A candidate as it is laid out: its words with single spaces between them."""
    return " ".join(text.split())


def _image(store: Store, digest: str) -> bytes:
    content: bytes = store.value("SELECT bytes FROM image WHERE sha256 = ?", digest)
    return content
