"""What generates and what learns: samplers, the teacher, the learner, weights on disk."""


class PolicyError(Exception):
    """A model directory, a swap or the teacher is not as it must be; the message says how to mend it."""
