"""One question in full: its images, its results by round, and the chains written for it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from judges.preference import read_sums
from loop.errors import InputError
from loop.pages.browse import Side
from loop.questions.preferences import JUDGE, read_layout
from loop.reading.scored_tokens import Piece, scored_pieces
from store import Store
from store.maintenance.archive import question_samples
from store.packing import unpack_scores, unpack_token_ids

STYLE_NAMES = {"cot": "with reasoning", "direct": "direct answer"}

GREEDY = """SELECT * FROM evaluation
WHERE policy = ? AND split = ? AND style IN ('cot', 'direct') AND question = ? ORDER BY style"""
BEST_OF = """SELECT chain.*, (SELECT token_scores FROM verifier_score WHERE verifier_score.sample = chain.id
    ORDER BY reference LIMIT 1) AS token_scores,
    (SELECT score FROM verifier_score WHERE verifier_score.sample = chain.id ORDER BY reference LIMIT 1) AS verified
FROM evaluation_sample AS chain
WHERE chain.policy = ? AND chain.split = ? AND chain.style IN ('cot', 'direct') AND chain.question = ?
ORDER BY chain.style, chain."index" """


@dataclass(frozen=True)
class Attempt:
    """A chain with its verdict. `with_token_scores` adds `pieces`; `sample` is the id for `show sample`.

    `sums` has the two scores that a judgement gives, one per candidate.
    `scored` has packed token ids and verifier scores, if a verifier scored the chain.
    """

    title: str
    text: str
    outcome: str | None
    extracted: str | None
    tokens: int
    policy: int | None
    flags: tuple[str, ...] = ()
    sums: tuple[float, float] | None = None
    sample: int | None = None
    logprob: float | None = None
    faithful: bool | None = None
    verified: float | None = None
    scored: tuple[bytes, bytes] | None = None
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True)
class Image:
    """An image of the store and its size in pixels."""

    digest: str
    width: int
    height: int


@dataclass(frozen=True)
class QuestionCard:
    """A question in full. `history` has (round, samples, right) for each round that asked it.

    `candidates` has the two texts of a preference, in the order asked; `text` is then the question about them.
    """

    id: int
    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...]
    judge: str
    split: str
    source: str
    kind: str | None
    suspect: int | None
    images: tuple[Image, ...]
    history: tuple[tuple[int, int, int], ...]
    candidates: tuple[str, str] | None = None


def read_question(store: Store, number: int) -> QuestionCard:
    """A question by its number; raises InputError if there is none."""
    row = store.row("SELECT * FROM question WHERE id = ?", number)
    if row is None:
        raise InputError(f"there is no question {number}")
    images = store.rows(
        "SELECT sha256, width, height FROM question_image JOIN image ON sha256 = image WHERE question = ?"
        " ORDER BY position",
        number,
    )
    history = store.rows("SELECT round, samples, correct FROM question_history WHERE question = ?", number)
    laid_out = _laid_out(store, row["text"]) if row["judge"] == JUDGE else None
    return QuestionCard(
        number,
        row["text"] if laid_out is None else laid_out["question"],
        tuple(json.loads(row["answers"])),
        tuple(json.loads(row["choices"])),
        row["judge"],
        row["split"],
        row["source"],
        row["kind"],
        row["suspect"],
        tuple(Image(*image) for image in images),
        tuple(sorted(tuple(each) for each in history)),
        None if laid_out is None else (laid_out["first"], laid_out["second"]),
    )


def _laid_out(store: Store, text: str) -> dict[str, str] | None:
    layout = store.value("SELECT json_extract(configuration, '$.questions.preference_layout') FROM run")
    return None if layout is None else read_layout(layout, text)


def read_attempts(store: Store, card: QuestionCard, side: Side) -> list[Attempt]:
    """A round's chains for a question: its samples, its candidate's greedy answers, and its best-of-K samples."""
    found: list[Attempt] = []
    if side.round is not None:
        samples = question_samples(store, side.round, card.id)
        found += [_of_sample(row) for row in sorted(samples, key=lambda row: (row["author"], row["index"]))]
    if side.policy is not None:
        found += [_of_greedy(row) for row in store.rows(GREEDY, side.policy, card.split, card.id)]
        found += [_of_best(row) for row in store.rows(BEST_OF, side.policy, card.split, card.id)]
    return found


def with_token_scores(store: Store, attempt: Attempt) -> Attempt:
    """The chain with the verifier's score of each token, if there are scores."""
    if attempt.scored is None or attempt.policy is None:
        return attempt
    ids, scores = unpack_token_ids(attempt.scored[0]), unpack_scores(attempt.scored[1])
    return replace(attempt, pieces=scored_pieces(store, attempt.policy, ids, scores))


def choose_attempts(found: Sequence[Attempt], limit: int) -> list[Attempt]:
    """At most `limit` chains in their order, alternately right and other ones, so that both kinds are kept."""
    right = [each for each in found if each.outcome == "correct"]
    other = [each for each in found if each.outcome != "correct"]
    kept = max(limit // 2, limit - len(other))
    chosen = right[:kept]
    chosen += other[: limit - len(chosen)]
    return [each for each in found if any(each is one for one in chosen)]


def _of_sample(row: dict[str, Any]) -> Attempt:
    title = f"sample {row['index'] + 1}" if row["author"] == "policy" else row["author"]
    if row["style"] != "cot":
        title += f", {STYLE_NAMES.get(row['style'], row['style'])}"
    return replace(_attempt(title, row), sample=row["id"], logprob=row["logprob"])


def _of_greedy(row: Any) -> Attempt:
    faithful = None if row["faithful"] is None else bool(row["faithful"])
    return replace(_attempt(f"greedy, {STYLE_NAMES[row['style']]}", row), faithful=faithful)


def _of_best(row: Any) -> Attempt:
    title = f"best of K, sample {row['index'] + 1}, {STYLE_NAMES[row['style']]}"
    tokens = len(unpack_token_ids(row["token_ids"]))
    scored = None if row["token_scores"] is None else (row["token_ids"], row["token_scores"])
    return replace(_attempt(title, {**dict(row), "tokens": tokens}), verified=row["verified"], scored=scored)


def _attempt(title: str, row: Any) -> Attempt:
    flags = tuple(json.loads(row["flags"] or "[]"))
    sums = read_sums(row["text"]) if (row["judge"] or "").startswith(JUDGE) else {}
    both = (sums["1"], sums["2"]) if len(sums) == 2 else None
    return Attempt(title, row["text"], row["outcome"], row["extracted"], row["tokens"], row["policy"], flags, both)
