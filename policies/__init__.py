"""What generates and what learns: samplers, the teacher, the learner, weights on disk."""


def first_line(error: Exception) -> str:
    """The first line of what a library said, or what kind of error it was."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class PolicyError(Exception):
    """A model directory, a swap or the teacher is not as it must be; the message says how to mend it."""
