"""The process that tests' processes are forked from; `tests.support.forked` starts it and asks it for them.

A process that imports torch, TRL and vLLM needs 10 to 15 s before it does anything; a fork of one that has imported
them needs a few hundredths. All test workers share one server.
"""

import gc
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Work:
    """A function to call in a process of its own, and what the process has. Its output goes to files of `folder`."""

    function: Callable[..., object]
    arguments: tuple[object, ...]
    environment: dict[str, str]
    folder: Path


def serve(listening: socket.socket, modules: list[str]) -> None:
    """Import the modules, then fork for everyone who connects, until standard input is closed."""
    before = dict(os.environ)
    for name in modules:
        importlib.import_module(name)
    set_by_modules = {name: value for name, value in os.environ.items() if before.get(name) != value}
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    stopped = sys.stdin.fileno()
    while stopped not in select.select([listening.fileno(), stopped], [], [])[0]:
        client, _ = listening.accept()
        with client:
            if os.fork() == 0:
                listening.close()
                _supervise(client, set_by_modules)
                os._exit(0)


def _supervise(client: socket.socket, set_by_modules: dict[str, str]) -> None:
    """Fork once more; say the number of the process, and its exit code when it ends. It dies with its client."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with client.makefile("rwb") as stream:
        work: Work = pickle.load(stream)  # noqa: S301 (from our own tests)
        begun, begins = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.close(begins)
            os._exit(_do(work, set_by_modules))
        os.close(begins)
        os.read(begun, 1)  # ends once the process is a session of its own, which can be killed as a whole
        os.close(begun)
        pickle.dump(pid, stream)
        stream.flush()
        ended = os.pidfd_open(pid)
        if ended not in select.select([ended, client.fileno()], [], [])[0]:
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        pickle.dump(os.waitstatus_to_exitcode(status), stream)


def _do(work: Work, set_by_modules: dict[str, str]) -> int:
    """Call the function as the program of a new process; returns its exit code.

    Modules that set variables when they are imported are imported already: their settings are part of it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background lets its children ignore it
    os.environ.clear()
    os.environ.update({**set_by_modules, **work.environment})
    os.chdir(PROJECT)
    _redirect(0, Path(os.devnull), os.O_RDONLY)
    _redirect(1, work.folder / "stdout", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _redirect(2, work.folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    encoding = work.environment.get("PYTHONIOENCODING", "utf-8")
    streams = (
        os.fdopen(1, "w", encoding=encoding, closefd=False),
        os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", closefd=False),
    )
    sys.stdout, sys.stderr = streams
    try:
        work.function(*work.arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        for stream in streams:
            stream.flush()
    return 0


def _redirect(number: int, path: Path, flags: int) -> None:
    file = os.open(path, flags, 0o600)
    os.dup2(file, number)
    os.close(file)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
