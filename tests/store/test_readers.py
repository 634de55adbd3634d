"""Other programs read the store as it is: Datasette with the metadata that is shipped, and sqlite3's own shell."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store import open_store
from tests.support.command_line import PROJECT

FIXTURES = PROJECT / "tests" / "fixtures"
METADATA = PROJECT / "docs" / "datasette.json"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    shutil.copy(FIXTURES / "store_m001.db", tmp_path / "store.db")
    open_store(tmp_path).close()
    return tmp_path / "store.db"


@pytest.fixture
def datasette(database: Path, tmp_path: Path) -> Iterator[str]:
    """The address of Datasette, serving the database with the metadata that is shipped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "datasette", "serve", str(database), "--metadata", str(METADATA), "--port", port]
    with (tmp_path / "datasette.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(("127.0.0.1", int(port)), server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait_for(address: tuple[str, int], server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None
        assert time.monotonic() < deadline
        try:
            socket.create_connection(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)


def read(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=60) as reply:  # noqa: S310 (our own server)
        found: dict[str, Any] = json.load(reply)
    return found


def test_datasette_opens_the_store_and_all_queries_answer(datasette: str) -> None:
    described = json.loads(METADATA.read_text())["databases"]["store"]
    listed = read(f"{datasette}/store.json")
    assert {query["name"] for query in listed["queries"]} == described["queries"].keys()
    assert described["tables"].keys() <= {
        *(table["name"] for table in listed["tables"]),
        *(view["name"] for view in listed["views"]),
    }
    for name in described["queries"]:
        found = read(f"{datasette}/store/{name}.json?_shape=objects&question=22&round=1")
        assert found["rows"], name


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_the_sqlite3_shell_reads_it_while_a_writer_has_it_open(database: Path) -> None:
    store = open_store(database.parent)
    with store.transaction():
        store.connection.execute("UPDATE round SET reason = 'not yet committed'")
        sql = "SELECT round, samples, decision FROM round_log"
        shell = subprocess.run(["sqlite3", "-readonly", str(database), sql], capture_output=True, text=True, check=True)
        assert shell.stdout == "0||accepted\n1|32|accepted\n2|32|accepted\n"
    store.close()
