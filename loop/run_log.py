"""`DIR/run.log`: all messages, those of libraries included; the terminal shows only important ones."""

import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loop.errors import InputError

QUIET_LIBRARIES = ("vllm", "transformers", "trl", "accelerate", "httpx", "httpcore", "openai", "datasets")


@contextmanager
def run_log(run_dir: Path) -> Iterator[None]:
    """Send every log record and Python warning to the file while the context lasts.

    Makes the directory. Inside another `run_log` of the same directory it does nothing.
    """
    _make(run_dir)
    path, root = (run_dir / "run.log").resolve(), logging.getLogger()
    if any(getattr(each, "baseFilename", None) == str(path) for each in root.handlers):
        yield
        return
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_Seldom())
    root.addHandler(handler)
    logging.getLogger("ratchet").setLevel(logging.INFO)
    logging.captureWarnings(True)
    _silence_terminal()
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()


class _Seldom(logging.Filter):
    """Passes the same message of a library at most `OFTEN` times: vLLM repeats one warning at every step."""

    OFTEN = 100

    def __init__(self) -> None:
        super().__init__()
        self._said: Counter[tuple[str, int, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "ratchet":
            return True
        said = (record.name, record.lineno, str(record.msg)[:200])
        self._said[said] += 1
        if self._said[said] == self.OFTEN:
            record.msg = f"{record.msg} (said {self.OFTEN} times now; not repeated)"
        return self._said[said] <= self.OFTEN


@contextmanager
def library_noise_to(run_dir: Path) -> Iterator[None]:
    """Redirect what libraries write to file descriptor 2 to the log file while the context lasts.

    Compiled code and an engine's processes bypass Python's logging. Errors still propagate.
    """
    _make(run_dir)
    sys.stderr.flush()
    terminal = os.dup(2)
    with (run_dir / "run.log").open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)


def _make(run_dir: Path) -> None:
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError(f"--run-dir {run_dir} is a file; name a directory")
    run_dir.mkdir(parents=True, exist_ok=True)


def _silence_terminal() -> None:
    """Remove libraries' own terminal handlers; their records reach the file through the root logger."""
    import datasets
    import transformers

    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.enable_propagation()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.simplefilter("default")
    # torch writes to the terminal by a handler of its own, which it makes when it is imported, later than this.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.INFO if name == "vllm" else logging.WARNING)
