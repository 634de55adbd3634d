"""Errors of judges that cannot decide, and of judges that are specified wrongly."""

from ratchet_error import RatchetError


class JudgeError(RatchetError):
    """No verdict: the outcome is `judge_error`, and `reason` is kept among the verdict's flags."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class JudgeSpecError(RatchetError, ValueError):
    """A judge's name or options are wrong; the message names the fault and lists what is known."""
