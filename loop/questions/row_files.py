"""Rows of a JSONL or Parquet file, one by one, each with its number from 1."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loop.errors import InputError


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(number, row); raises InputError naming the file, and the line of what is not JSON."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        row = json.loads(line)
                        json.dumps(row, ensure_ascii=False).encode()
                    except UnicodeEncodeError as error:
                        raise InputError(f"{path}, line {number}: holds half of a surrogate pair, no text") from error
                    except (ValueError, RecursionError) as error:
                        raise InputError(f"{path}, line {number}: not JSON ({error})") from error
                    yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}; give a .jsonl or .parquet file") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        with pq.ParquetFile(path) as parquet:
            number = 0
            for batch in parquet.iter_batches(1000):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, ArrowException) as error:
        raise InputError(f"{path} cannot be read: {error}; give a .jsonl or .parquet file") from error
