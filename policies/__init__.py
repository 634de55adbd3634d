"""Policies: samplers, the learner, the teacher's client, weights on disk."""

from ratchet_error import RatchetError


def first_line(error: Exception) -> str:
    """The first line of a library's message, or the type of the error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class PolicyError(RatchetError):
    """A model directory, a swap or the teacher is not as it must be; the message says how to mend it."""


class SettingError(PolicyError):
    """A setting of the configuration that cannot work with this model or on this machine; the message says why."""
