"""What a user can put right: every error here is one line that names the culprit and the cure."""


class InputError(Exception):
    """A configuration key, file or row is not as it must be (exit code 2)."""


class LoopError(Exception):
    """The loop cannot go on (exit code 1); the store is intact."""
