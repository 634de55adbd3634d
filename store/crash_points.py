"""Named moments that a crash must not harm. A run does nothing there; tests set `observer` to kill the process."""

from collections.abc import Callable

observer: Callable[[str], None] | None = None


def crash_point(name: str) -> None:
    """Tell the observer, if a test has set one, that this moment is reached."""
    if observer is not None:
        observer(name)
