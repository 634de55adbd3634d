"""What a judge says when it cannot say right or wrong."""


class JudgeError(Exception):
    """No verdict: the outcome is `judge_error`, and `reason` is kept among the verdict's flags."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class JudgeSpecError(ValueError):
    """A judge's name or options are wrong; the message names what and lists what is known."""
