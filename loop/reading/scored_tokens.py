"""A chain in pieces of text, each with its verifier score, for the pages and the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from store import Store
from store.rounds import get_policy

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Piece:
    """A token's text and its verifier score: log pi(later policy) - log pi(earlier policy), in nats."""

    text: str
    score: float


def scored_pieces(store: Store, policy: int, token_ids: Sequence[int], scores: Sequence[float]) -> tuple[Piece, ...]:
    """The chain's tokens with their scores; bytes that form one character together belong to the last of them.

    An incomplete character at the end becomes a replacement character. Empty if no tokenizer is available or can read
    the tokens, or if tokens and scores do not match.
    """
    tokenizer = _tokenizer_of(store, policy)
    if tokenizer is None or len(token_ids) != len(scores):
        return ()
    from tokenizers.decoders import DecodeStream

    stream, pieces = DecodeStream(skip_special_tokens=False), list[Piece]()
    waiting: list[float] = []
    for token, score in zip(token_ids, scores, strict=True):
        try:
            text = stream.step(tokenizer, token)
        except Exception:  # the library raises no class of its own for bytes that form no character
            return ()
        waiting.append(score)
        if text is not None:
            pieces.append(Piece(text, sum(waiting)))
            waiting = []
    if waiting:
        pieces.append(Piece("\N{REPLACEMENT CHARACTER}", sum(waiting)))
    return tuple(pieces)


def _tokenizer_of(store: Store, policy: int) -> "Tokenizer | None":
    """A policy's tokenizer, or the accepted policy's if its own files were deleted; None without either."""
    run_dir = store.path.parent
    own = run_dir / get_policy(store, policy).path / "tokenizer.json"
    for file in (own, run_dir / "policies" / "current" / "tokenizer.json"):
        if file.exists():
            return _load_tokenizer(file, file.stat().st_mtime_ns)
    return None


@lru_cache(maxsize=4)
def _load_tokenizer(file: Path, _changed: int) -> "Tokenizer":
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))
