"""A chain's verifier scores, one a token, as the store keeps them: deflated little-endian 32-bit floats."""

import array
import sys
import zlib
from collections.abc import Sequence


def pack_scores(scores: Sequence[float]) -> bytes:
    """Nats, in the order of the tokens."""
    return zlib.compress(_little_endian(array.array("f", scores)).tobytes())


def unpack_scores(blob: bytes) -> list[float]:
    """Inverse of `pack_scores`, to the precision of 32 bits."""
    return _little_endian(array.array("f", zlib.decompress(blob))).tolist()


def _little_endian(floats: "array.array[float]") -> "array.array[float]":
    if sys.byteorder == "big":
        floats.byteswap()
    return floats
