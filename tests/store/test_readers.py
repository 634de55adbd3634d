"""Other programs read the store as it is: Datasette with the metadata that is shipped, and sqlite3's own shell."""

import json
import shutil
import subprocess
import sys
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


def datasette(database: Path, path: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "datasette", "serve", str(database), "--metadata", str(METADATA), "--get", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_datasette_opens_the_store_and_every_canned_query_answers(database: Path) -> None:
    described = json.loads(METADATA.read_text())["databases"]["store"]
    listed = datasette(database, "/store.json")
    assert {query["name"] for query in listed["queries"]} == described["queries"].keys()
    assert described["tables"].keys() <= {
        *(table["name"] for table in listed["tables"]),
        *(view["name"] for view in listed["views"]),
    }
    for name in described["queries"]:
        found = datasette(database, f"/store/{name}.json?_shape=objects&question=22&round=1")
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
