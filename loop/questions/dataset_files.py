"""Opening a set: a name on the hub, a file, or a folder; its splits, its columns, and its rows one after the other.

Local Parquet is read with pyarrow itself, a few rows at a time: through `datasets` a row group of 120 MB took 570 MB.
All other formats are streamed by `datasets`, with images as undecoded bytes or paths.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.config.dataset_keys import FORMATS
from loop.errors import InputError

BATCH_ROWS = 64
"""Rows of a Parquet file at hand at once."""

PROBE_S = 10.0
"""Seconds that the hub may take to say whether it has a set."""

READ = ("Parquet", "Arrow", "Json", "Csv", "ImageFolder")
"""Builders of `datasets` that are used. Others would unpickle what a set brings, or read what is no question."""

Rows = Callable[[], Iterator[dict[str, Any]]]


@dataclass(frozen=True)
class OpenSet:
    """A set that was found. `rows` has a function for each split that reads it from its start.

    `columns` are those of each split; `classes` has the names of the classes of columns that hold their numbers.
    Paths of images are relative to `folder`; it is None for a set of the hub.
    """

    path: str
    rows: Mapping[str, Rows]
    columns: Mapping[str, Sequence[str]]
    classes: Mapping[str, Sequence[str]]
    folder: Path | None


def open_set(path: str, name: str | None = None) -> OpenSet:
    """Open the set of a path or name; raises InputError, which says how to mend it, if it is missing or unreadable."""
    local = Path(path)
    if not local.is_absolute():  # a path of the configuration was made absolute when it was read
        return _hub_set(path, name)
    if not local.exists():
        raise InputError(f"questions.path = {path}: there is no such file or folder")
    with _faults_named(path):
        if local.is_dir() and (local / "dataset_dict.json").exists():
            return _saved(local, dict(_datasets().load_from_disk(str(local))))
        if local.is_dir() and (local / "state.json").exists():
            return _saved(local, {"train": _datasets().load_from_disk(str(local))})
        if local.is_dir():
            return _local_set(path, _datasets().load_dataset_builder(str(local.resolve()), name), local)
        if local.suffix not in FORMATS:
            raise InputError(
                f"questions.path = {path}: of files, {', '.join(FORMATS)} are read; or give a folder, or a set's name"
            )
        options = {"sep": "\t"} if local.suffix == ".tsv" else {}
        files = {"train": str(local.resolve())}
        builder = _datasets().load_dataset_builder(FORMATS[local.suffix], data_files=files, **options)
        return _local_set(path, builder, local.parent)


def reading(path: str, split: str, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows with their index in the split, from 0. Raises InputError naming the row after which reading failed."""
    index = -1
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except InputError:
            raise
        except Exception as error:  # of pyarrow, pandas, fsspec, the network: whatever the format brings
            raise InputError(
                f"{path}, split {split!r}: cannot be read after row {index} ({_short(error)}); mend the file, or end"
                " before it with questions.limit"
            ) from error
        index += 1
        yield index, row


def _local_set(path: str, builder: Any, folder: Path) -> OpenSet:
    if _kind(builder) != "Parquet":
        return _streamed(path, builder, folder)
    files = {str(split): [Path(each) for each in names] for split, names in builder.config.data_files.items()}
    schemas = {split: _schema(names) for split, names in files.items()}
    return OpenSet(
        path,
        rows={split: _parquet_rows(names) for split, names in files.items()},
        columns={split: list(schema.names) for split, schema in schemas.items()},
        classes={name: names for schema in schemas.values() for name, names in _classes(_features(schema)).items()},
        folder=folder,
    )


def _kind(builder: Any) -> str:
    """The builder's class in `READ`, which `datasets` may have given a subclass named after the set; else its own."""
    names = [each.__name__ for each in type(builder).__mro__]
    return next((name for name in names if name in READ), names[0])


def _streamed(path: str, builder: Any, folder: Path | None) -> OpenSet:
    """Open any other format, or a set of the hub: `datasets` streams the rows."""
    if (kind := _kind(builder)) not in READ:
        raise InputError(f"questions.path = {path}: is a set of kind {kind}; {', '.join(READ)} are read")
    if hasattr(builder.config, "fragment_scan_options"):
        builder.config.batch_size = BATCH_ROWS
    splits = {str(name): split for name, split in builder.as_streaming_dataset().items()}
    # Where no features are written, as in CSV and JSON, there are none to decode.
    streams = {name: split.decode(False) if split.features else split for name, split in splits.items()}
    return OpenSet(
        path,
        rows={name: split.__iter__ for name, split in streams.items()},
        columns={name: list(split.features or next(iter(split), {})) for name, split in splits.items()},
        classes={column: names for split in splits.values() for column, names in _classes(split.features).items()},
        folder=folder,
    )


def _saved(folder: Path, splits: Mapping[str, Any]) -> OpenSet:
    """Open a folder that `save_to_disk` wrote: Arrow files, mapped into memory and read when they are needed."""
    streams = {name: split.to_iterable_dataset().decode(False) for name, split in splits.items()}
    return OpenSet(
        str(folder),
        rows={name: split.__iter__ for name, split in streams.items()},
        columns={name: list(split.features) for name, split in splits.items()},
        classes={column: names for split in splits.values() for column, names in _classes(split.features).items()},
        folder=folder,
    )


def _hub_set(path: str, name: str | None) -> OpenSet:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    there = f"questions.path = {path!r} is no file or folder here, and on the hub"
    try:
        HfApi().dataset_info(path, timeout=PROBE_S)
    except GatedRepoError as error:
        raise InputError(
            f"{there} the set is gated: accept its terms at https://huggingface.co/datasets/{path}, then run"
            " 'hf auth login'"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{there} there is no such set, or it is private: look at the name, or run 'hf auth login'"
        ) from error
    except OfflineModeIsEnabled as error:
        raise InputError(
            f"{there} nothing is looked up, as HF_HUB_OFFLINE is set: download the set elsewhere (hf download {path}"
            " --repo-type dataset --local-dir DIR), and give DIR as questions.path"
        ) from error
    except (HfHubHTTPError, OSError, Exception) as error:
        raise InputError(
            f"{there} it cannot be looked up ({_short(error)}): check the network, or download the set elsewhere (hf"
            f" download {path} --repo-type dataset --local-dir DIR) and give DIR as questions.path"
        ) from error
    with _faults_named(path):
        return _streamed(path, _datasets().load_dataset_builder(path, name), None)


@contextmanager
def _faults_named(path: str) -> Iterator[None]:
    """Raise InputError with one line for any error of `datasets` while it opens a set."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"questions.path = {path}: cannot be opened as a set ({_short(error)}); give a Parquet, Arrow, JSON or CSV"
            " file, a folder of such files or of images, or a set's name on the hub"
        ) from error
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _parquet_rows(files: Sequence[Path]) -> Rows:
    def rows() -> Iterator[dict[str, Any]]:
        import pyarrow.parquet as pq

        for path in files:
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
                for batch in file.iter_batches(BATCH_ROWS):
                    yield from batch.to_pylist()

    return rows


def _schema(files: Sequence[Path]) -> Any:
    import pyarrow.parquet as pq

    return pq.read_schema(files[0])


def _features(schema: Any) -> Mapping[str, Any]:
    """The features that `datasets` wrote into a Parquet file as JSON; {} if another program wrote the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _classes(features: Mapping[str, Any] | None) -> dict[str, Sequence[str]]:
    """Column -> names of its classes, from features or from their JSON."""
    found: dict[str, Sequence[str]] = {}
    for column, feature in (features or {}).items():
        names = feature.get("names") if isinstance(feature, dict) else getattr(feature, "names", None)
        if isinstance(names, list):
            found[column] = names
    return found


def _short(error: BaseException) -> str:
    """An error's message on one line, or its kind."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _datasets() -> Any:
    """Import `datasets` late: it loads torch, and most commands need no set."""
    import datasets

    return datasets
