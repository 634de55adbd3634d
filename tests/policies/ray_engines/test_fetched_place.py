"""A node keeps the files that were sent to it in a directory of the user's own, and in no other."""

from pathlib import Path

import pytest

from policies import PolicyError
from policies.ray_engines.transfer import SentDirectory, at_hand, delete_fetched


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place, in a temporary directory that anybody may write."""
    import os
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"ratchet-{os.getuid()}"


def test_a_foreign_link_in_the_temporary_directory_is_refused(root: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    (home / "work" / "file").write_text("of use")
    root.symlink_to(home)
    delete_fetched()
    with (
        pytest.raises(PolicyError, match="is a link or belongs to another user"),
        at_hand(SentDirectory("name", (), None)),
    ):
        pass
    assert (home / "work" / "file").read_text() == "of use"
    assert [path.name for path in home.iterdir()] == ["work"]


def test_what_was_fetched_is_deleted_once_nobody_reads_it(root: Path) -> None:
    with at_hand(SentDirectory("name", (), None)) as directory:
        assert directory == root / "name"
        assert root.stat().st_mode & 0o77 == 0
        delete_fetched()
        assert directory.is_dir()
    delete_fetched()
    assert not directory.exists()
