"""The schema: old stores are upgraded without loss, no query walks the samples, the views say what is there."""

import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loop.config.load import parse_config
from loop.config.schema import Config
from loop.reading.run_status import run_status
from loop.reporting import Observer
from loop.terminal.log_table import format_log
from store import Store, StoreError, open_store
from store.maintenance.check import find_faults
from tests.support.command_line import PROJECT, run_command
from tests.support.forked import run_forked
from tests.support.scripted_run import run_scripted, scripted_config
from tests.support.stores import modules_of

FIXTURES = PROJECT / "tests" / "fixtures"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A run of two rounds as the first schema wrote it: real vLLM, real TRL, a teacher."""
    shutil.copy(FIXTURES / "store_m001.db", tmp_path / "store.db")
    return tmp_path


def rows_of(path: Path, tables: list[str]) -> dict[str, list[dict[str, Any]]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    found = {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables}
    connection.close()
    return found


def test_a_store_of_the_first_schema_is_upgraded_without_loss(old_run: Path) -> None:
    connection = sqlite3.connect(old_run / "store.db")
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    tables = [name for (name,) in names if not name.startswith(("_", "sqlite_"))]
    before = rows_of(old_run / "store.db", tables)
    assert len(before["sample"]) == 72
    store = open_store(old_run)
    assert list(find_faults(store, lambda _: None)) == []
    assert store.value("SELECT sum(samples) FROM round_summary") == 64
    store.close()
    after = rows_of(old_run / "store.db", tables)
    for table, rows in before.items():
        lost = rows[0].keys() - after[table][0].keys()
        assert lost == ({"id"} if table == "verdict" else set()), table
        reworded = {"status"} if table == "teacher_call" else set()  # 'kept' is the sample's verdict since m003
        columns = sorted(rows[0].keys() - lost - reworded)
        old, new = (sorted(repr([row[c] for c in columns]) for row in found) for found in (rows, after[table]))
        assert old == new, table


def test_an_upgrade_keeps_what_other_migrations_added(old_run: Path) -> None:
    connection = sqlite3.connect(old_run / "store.db")
    for statement in (
        "ALTER TABLE verdict ADD COLUMN remark TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE sample ADD COLUMN note TEXT",
        "UPDATE verdict SET remark = '[1]' WHERE sample = 5",
        "UPDATE sample SET note = 'kept' WHERE id = 5",
        "CREATE TABLE beside (failed INTEGER REFERENCES sample (id))",
    ):
        connection.execute(statement)
    connection.commit()
    connection.close()
    store = open_store(old_run)
    assert store.value("SELECT remark FROM verdict WHERE sample = 5") == "[1]"
    assert store.value("SELECT note FROM sample WHERE id = 5") == "kept"
    assert "beside_failed" in [row["name"] for row in store.rows("PRAGMA index_list(beside)")]
    with pytest.raises(sqlite3.IntegrityError):
        store.connection.execute("INSERT INTO phase_time VALUES (2, 'dreaming', 1.0)")
    store.close()


def test_reading_only_changes_nothing_and_names_the_upgrade(old_run: Path) -> None:
    before = (old_run / "store.db").read_bytes()
    with pytest.raises(StoreError, match=r"older version; 'log .*' brings it up to date"):
        open_store(old_run, read_only=True)
    assert (old_run / "store.db").read_bytes() == before


def test_what_is_not_a_value_of_a_column_is_refused(old_run: Path) -> None:
    store = open_store(old_run)
    for statement in (
        "UPDATE sample SET author = 'nobody'",
        "UPDATE pair SET source = 'hearsay'",
        "UPDATE round SET phase = 'dreaming'",
        "UPDATE round SET decision = 'maybe'",
        "UPDATE verdict SET outcome = 'nearly'",
        "UPDATE evaluation SET outcome = 'nearly'",
    ):
        with pytest.raises(sqlite3.IntegrityError), store.transaction():
            store.connection.execute(statement)
    store.close()


def test_the_views_say_what_the_tables_hold(old_run: Path) -> None:
    store = open_store(old_run)
    log = store.rows("SELECT * FROM round_log")
    assert [(row["round"], row["samples"], row["decision"]) for row in log] == [
        (0, None, "accepted"),
        (1, 32, "accepted"),
        (2, 32, "accepted"),
    ]
    right = store.value(
        "SELECT avg(outcome = 'correct') FROM sample JOIN verdict ON sample.id = sample WHERE round = 1"
    )
    assert log[1]["pass_rate"] == right
    pairs = store.rows("SELECT * FROM pair_detail")
    assert len(pairs) == 6
    for row in pairs:
        assert (row["chosen_outcome"], row["rejected_outcome"]) == ("correct", "wrong")
        assert row["chosen_text"] != row["rejected_text"]
        assert len(json.loads(row["images"])) == 1
        assert all(row[key] is not None for key in row.keys() if not key.startswith("imported"))  # noqa: SIM118
    history = store.rows("SELECT * FROM question_history WHERE round = 1")
    assert len(history) == 8
    assert sum(row["samples"] for row in history) == 32
    assert sum(row["correct"] for row in history) / 32 == right
    (cost,) = store.rows("SELECT * FROM teacher_cost")
    assert (cost["purpose"], cost["calls"], cost["kept"]) == ("cold_start", 8, 6)
    assert cost["prompt_tokens"] > 0
    lineage = store.rows("SELECT policy, generation, ancestors, round FROM policy_lineage")
    assert [tuple(row) for row in lineage] == [
        (0, 0, "0", None),
        (1, 1, "0 > 1", 0),
        (2, 2, "0 > 1 > 2", 1),
        (3, 3, "0 > 1 > 2 > 3", 2),
    ]
    store.close()


def run_and_trace(folder: Path) -> None:
    """A whole run, read in every phase as `log` and `status` do, and every view; writes down every statement."""
    run_dir, traced = folder / "run", list[str]()

    def observe(config: Config, store: Store, stack: ExitStack, say: Callable[[str], None]) -> Observer:
        store.connection.set_trace_callback(traced.append)
        return lambda store: None

    def traced_store() -> Store:
        store = open_store(run_dir)
        store.connection.set_trace_callback(traced.append)
        return store

    def look(name: str) -> None:
        if "commit" in name:
            return
        store = traced_store()
        format_log(store)
        status = run_status(store)
        assert status.pid is not None
        assert f"round {status.round}: {status.phase} begins" == name
        store.close()

    run_scripted(run_dir, scripted_config(folder), look, open_observer=observe)
    store = traced_store()
    for view in ("round_log", "teacher_cost", "policy_lineage"):
        store.rows(f"SELECT * FROM {view}")
    store.rows("SELECT * FROM pair_detail WHERE round = 1")
    store.rows("SELECT * FROM question_history WHERE question = 1")
    store.close()
    (folder / "traced").write_text("\0".join(traced))


def test_no_query_of_loop_or_log_scans_all_samples() -> None:
    """Every statement of a whole run, as SQLite saw it, and SQLite's own plan for it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_forked(run_and_trace, folder)
        traced = set((folder / "traced").read_text().split("\0"))
        connection = sqlite3.connect(folder / "run" / "store.db")
        looked_at = 0
        for statement in sorted(traced):
            if not re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", statement, re.IGNORECASE):
                continue
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
            names = {"sample", "verdict", *re.findall(r"\b(?:sample|verdict) AS (\w+)", statement)}
            looked_at += any(word in statement for word in ("sample", "verdict"))
            walks = [step for step in plan if re.match(rf"SCAN ({'|'.join(names)})\b", step)]
            assert not walks, f"{statement}\n{plan}"
        connection.close()
        assert looked_at > 100


def test_a_reading_command_loads_neither_torch_nor_vllm(old_run: Path) -> None:
    run_command("log", old_run)
    slow = {"torch", "vllm", "transformers", "trl", "pandas", "datasets"}
    for code, name, *rest in (
        (0, "log"),
        (3, "status"),  # the run is finished
        (1, "check"),  # its weights are not there
        (0, "export", "pairs", "-o", old_run / "pairs.jsonl"),
    ):
        assert modules_of(name, old_run, *rest, check=code) & slow == set(), name


def test_a_first_versions_configuration_gets_todays_defaults(old_run: Path) -> None:
    store = open_store(old_run)
    stored = json.loads(store.value("SELECT configuration FROM run"))
    store.close()
    today = parse_config(stored, "run").model_dump(mode="json")
    assert "rft" not in stored
    assert today["rft"]["per_question"] == 0
    assert today["update"]["learning_rate"] == stored["update"]["learning_rate"]
