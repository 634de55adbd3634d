"""Backups: a copy of a run's store, weights and files as they are at one moment, also while it works."""

import os
import shutil
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

from loop.current_policy import point_to_current
from loop.errors import InputError, LoopError
from loop.reporting import Reporter
from policies.weights import deleting, flush, reading
from store import Store
from store.database import FILE_NAME, CrashPoint, connect, ignore
from store.maintenance.archive_place import is_url
from store.maintenance.copy import copy_store
from store.rounds import published_policies

TRIES = 5
"""Most attempts: the store is copied again if a policy was published and deleted meanwhile."""

BESIDE = ("rounds.jsonl", "run.log", "tracking")
"""Files beside the store. A continued run adds what they lack, so they are copied before the store."""

OF_A_BACKUP = {
    *BESIDE,
    FILE_NAME,
    f"{FILE_NAME}.partial",
    f"{FILE_NAME}.partial-journal",
    "policies",
    "policy",
    "archive",
}
"""What lies in a backup that was killed."""

UNFINISHED = shutil.ignore_patterns(".*", "*.tmp")


@dataclass(frozen=True)
class Backup:
    """The content of a backup: latest round, number of policies, and number of files that are hard links."""

    round: int | None
    policies: int
    linked: int
    copied: int


def back_up(store: Store, run_dir: Path, target: Path, reporter: Reporter, crash_point: CrashPoint = ignore) -> Backup:
    """Write the run as it is at one moment to `target`.

    Everything is written to a directory beside it, flushed, and renamed last; until then it contains no store. Weights
    and archives are linked if the file system allows, else copied. Policies in the copied store are kept on disk until
    they are copied, even if a run deletes them meanwhile. Raises InputError if the target exists or lies within the
    run, and LoopError if weights are missing.
    """
    target, partial = target.absolute(), target.absolute().with_name(f"{target.name}.partial")
    if os.path.lexists(target):
        raise InputError(f"{target} is there already; name a directory that is not")
    if target.resolve().is_relative_to(run_dir.resolve()):
        raise InputError(f"{target} lies within {run_dir}; name a directory beside it")
    if partial.is_symlink() or (partial.exists() and {each.name for each in partial.iterdir()} - OF_A_BACKUP):
        raise InputError(f"{partial} is there and is no unfinished backup; move it away, or name another directory")
    partial.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if not stack.enter_context(deleting(partial)):
            raise InputError(f"another backup is being written to {target}; wait for it, or name another directory")
        for left in partial.iterdir():  # left by a backup that was killed
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        _copy_beside(run_dir, partial)
        crash_point("the files beside the store are copied")
        copy = partial / f"{FILE_NAME}.partial"
        paths = _copy_store_and_hold_weights(store, run_dir, copy, reporter, crash_point, stack)
        with closing(Store(connect(copy, read_only=False), copy)) as copied:
            files = _Files()
            with reporter.bar("policies", len(paths), "policy") as bar:
                for path in paths:
                    files.take_folder(run_dir / path, partial / path)
                    bar.update()
                    crash_point("a policy is taken")
            for row in copied.rows("SELECT file FROM archive"):
                if is_url(row["file"]):
                    continue  # it stays where it is, and the copy names it too
                files.take(run_dir / row["file"], partial / row["file"])
            point_to_current(copied, partial)
            latest = copied.value("SELECT max(number) FROM round")
        _flush_all(partial)
        crash_point("all is written")
        copy.rename(partial / FILE_NAME)
        flush(partial)
        crash_point("the store has its name")
        partial.rename(target)
        flush(target.parent)
    return Backup(latest, len(paths), files.linked, files.copied)


def _copy_beside(run_dir: Path, partial: Path) -> None:
    for name in BESIDE:
        source = run_dir / name
        if source.is_dir():
            shutil.copytree(source, partial / name, symlinks=True, ignore=UNFINISHED)
        elif source.exists():
            shutil.copyfile(source, partial / name)


def _copy_store_and_hold_weights(
    store: Store, run_dir: Path, copy: Path, reporter: Reporter, crash_point: CrashPoint, stack: ExitStack
) -> list[str]:
    """Copy the store, with the paths of the weights that it needs; they are not deleted while the stack is open."""
    for _ in range(TRIES):
        held = {row["path"] for row in published_policies(store) if _hold(run_dir / row["path"], stack)}
        copy.unlink(missing_ok=True)
        with reporter.bar("store", 0, "page") as bar:

            def progress(left: int, total: int) -> None:
                bar.total = total
                bar.update(total - left - bar.n)

            copy_store(store, copy, progress)
        crash_point("the store is copied")
        with closing(Store(connect(copy, read_only=False), copy)) as copied:
            wanted = [row["path"] for row in published_policies(copied) if row["deleted"] is None]
        missing = [path for path in wanted if path not in held and not _hold(run_dir / path, stack)]
        if not missing:
            return wanted
    raise LoopError(
        f"{run_dir / missing[0]} holds no weights, and the store counts on them: 'check {run_dir}' tells what is"
        " missing; put it back, then make the backup"
    )


def _hold(directory: Path, stack: ExitStack) -> bool:
    """Keep a policy's directory from being deleted while the stack is open; False if it is gone."""
    with suppress(FileNotFoundError):
        stack.enter_context(reading(directory))
        return any(directory.glob("*.safetensors"))
    return False


class _Files:
    """Copies files; those that are never written again become hard links, if possible."""

    def __init__(self) -> None:
        self.linked = self.copied = 0

    def take_folder(self, source: Path, target: Path) -> None:
        """Take a policy's directory: weights by link, other files by copy."""
        target.mkdir(parents=True)
        for file in sorted(source.iterdir()):
            if file.suffix == ".safetensors":
                self.take(file, target / file.name)
            elif file.is_file() and file.suffix != ".tmp":
                shutil.copyfile(file, target / file.name)

    def take(self, source: Path, target: Path) -> None:
        """Take one file; of a link the file that it leads to, because the link may be invalid in the backup."""
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, target)
            self.copied += 1
        else:
            self.linked += 1


def _flush_all(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            flush(path)
    flush(folder)
