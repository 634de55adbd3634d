"""Errors of the loop. The tree of all errors of the project is in `ratchet_error.py`."""

from ratchet_error import RatchetError


class InputError(RatchetError):
    """A configuration key, file or row is not as it must be (exit code 2)."""


class LoopError(RatchetError):
    """The loop cannot continue (exit code 1); the store is intact."""
