"""Errors of the teacher's client."""

from policies import PolicyError


class TeacherError(PolicyError):
    """The teacher cannot be asked with this configuration; the message says how to mend it."""


class TeacherOutage(TeacherError):
    """The endpoint does not answer now. Every answer so far is kept; the other requests can be made later."""
