"""Each phase's memory is measured and kept beside its plan."""

import json
from pathlib import Path

import numpy as np

from loop.planning import peaks
from loop.planning.record import MemoryRecord
from store import open_store
from store.rounds import Policy, add_policy, start_round
from tests.support.command_line import log_of, run_command
from tests.support.scripted_run import in_process, run_scripted, scripted_config

MIB = 2**20


def test_a_past_peak_is_measured_and_the_processs_own_is_kept() -> None:
    whole = np.ones(300 * MIB, dtype=np.uint8)
    del whole
    assert peaks.begin_stretch()
    before = peaks.resident()
    block = np.ones(100 * MIB, dtype=np.uint8)
    del block
    assert before is not None
    assert 95 * MIB <= (peaks.peak() or 0) - before <= 120 * MIB
    assert (peaks.process_peak() or 0) >= before + 250 * MIB


def test_the_higher_peak_of_an_interrupted_phase_counts(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    with store.transaction():
        add_policy(store, Policy(0, None, "base", "sha", "path", {}))
    start_round(store, 0, "update", 0, [])
    record = MemoryRecord(None)
    for size in (80, 10):
        with record.of_phase(store, 0, "update", sampler_runs=False):
            np.ones(size * MIB, dtype=np.uint8)
    (row,) = store.rows("SELECT * FROM phase_memory")
    assert row["peak_host"] - row["before_host"] >= 75 * MIB
    assert row["planned_host"] is None


def test_log_and_show_have_the_memory_of_every_phase(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert in_process(lambda: run_scripted(run_dir, scripted_config(tmp_path))) == 0
    rows = log_of(run_dir)
    for row in rows:
        assert row["memory"].keys() == row["seconds"].keys()
        assert all(figures["peak_host"] is not None for figures in row["memory"].values())
    shown = json.loads(run_command("show", run_dir, "round", 1, "--json").stdout)
    assert shown["memory"] == rows[1]["memory"]
