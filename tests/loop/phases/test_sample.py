"""Phase `sample`: how many chains a round draws."""

from pathlib import Path

from tests.support.killed_runs import KINDS
from tests.support.real_runs import query
from tests.support.scripted_run import in_process, run_scripted, scripted_config


def test_each_turn_asks_and_samples_by_its_own_numbers(tmp_path: Path) -> None:
    kind = KINDS["judge"]
    config = scripted_config(tmp_path, **kind.tables(tmp_path))
    in_process(lambda: run_scripted(tmp_path / "run", config, lambda point: None, kind.script))
    drawn = """SELECT round, count(DISTINCT question), count(*) FROM sample
        WHERE author = 'policy' GROUP BY round ORDER BY round"""
    assert [tuple(row) for row in query(tmp_path / "run", drawn)] == [(1, 8, 16), (2, 4, 24)]
