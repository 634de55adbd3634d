"""Lines of a file: read twice and never held at once, whatever kind of file it is."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.errors import InputError
from loop.questions.lines import Lines


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=9), max_size=9), st.booleans())
def test_lines_are_those_between_line_feeds_each_time(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], mark: bool
) -> None:
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_bytes("\n".join(texts).encode("utf-8-sig" if mark else "utf-8"))
    lines = Lines(path)
    split = path.read_bytes().decode("utf-8-sig").split("\n")
    expected = [(number, text) for number, text in enumerate(split, 1) if text.strip()]
    for _ in range(2):
        assert [(number, text.removesuffix("\n")) for number, text in lines] == expected
    assert lines.count == len(expected)


def test_a_pipe_is_read_twice(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("one\n\ntwo"))
    writer.start()
    lines = Lines(pipe)
    writer.join()
    assert list(lines) == list(lines) == [(1, "one\n"), (3, "two")]


def test_a_file_that_changes_between_two_times_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\n")
    lines = Lines(path)
    path.write_text("one\ntwo\n")
    with pytest.raises(InputError, match="was changed while it was read"):
        list(lines)


def test_a_line_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\n\xff\n")
    with pytest.raises(InputError, match="cannot be read: line 2: 'utf-8' codec"):
        Lines(path)
