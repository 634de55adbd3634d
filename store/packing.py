"""Token ids and verifier scores of a chain as bytes, one number per token."""

from __future__ import annotations

import array
import sys
import zlib
from collections.abc import Sequence
from typing import Any

from store.errors import StoreError

WIDTHS = {1: "B", 2: "H", 3: "I", 4: "I"}
"""Bytes per id -> the array type that reads them; there is none for three bytes."""
DEFLATED = 0x78
"""First byte of what earlier versions wrote: a zlib stream of 32-bit integers."""


def pack_token_ids(token_ids: Sequence[int]) -> bytes:
    """One byte with the width in bytes that the largest id needs, then little-endian integers of that width.

    Not deflated: a chain is too short to save much by that, and it takes 60 times as long.
    """
    width = max(1, (max(token_ids, default=0).bit_length() + 7) // 8)
    words = _little_endian(array.array(WIDTHS[width], token_ids)).tobytes()
    if width != 3:
        return bytes([width]) + words
    packed = bytearray(3 * len(token_ids))
    for place in range(3):
        packed[place::3] = words[place::4]
    return bytes([width]) + packed


def unpack_token_ids(blob: bytes) -> list[int]:
    """Inverse of `pack_token_ids`; also reads the format of earlier versions. Raises StoreError for any other bytes."""
    width, packed = blob[0] if blob else 0, blob[1:]
    if width == DEFLATED:
        return _little_endian(array.array("I", zlib.decompress(blob))).tolist()
    if width not in WIDTHS or len(packed) % width:
        raise StoreError("a sample's token ids are damaged; 'check' lists all damage")
    if width == 3:
        wide = bytearray(len(packed) // 3 * 4)
        for place in range(3):
            wide[place::4] = packed[place::3]
        packed = bytes(wide)
    return _little_endian(array.array(WIDTHS[width], packed)).tolist()


def pack_scores(scores: Sequence[float]) -> bytes:
    """Deflated little-endian 32-bit floats: a chain's verifier scores in nats, in the order of the tokens."""
    return zlib.compress(_little_endian(array.array("f", scores)).tobytes())


def unpack_scores(blob: bytes) -> list[float]:
    """Inverse of `pack_scores`, to the precision of 32 bits."""
    return _little_endian(array.array("f", zlib.decompress(blob))).tolist()


def _little_endian(numbers: array.array[Any]) -> array.array[Any]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
