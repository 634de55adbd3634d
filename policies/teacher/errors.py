"""What the teacher's client raises."""

from policies import PolicyError


class TeacherError(PolicyError):
    """The teacher cannot be asked as it is configured; the message says how to mend it."""


class TeacherOutage(TeacherError):
    """The endpoint does not answer now. Every answer so far is kept; the other requests can be made later."""
