"""Profiles of a run: self times that add up, a trace that is JSON, and nothing left behind."""

import json
import threading
import time
from pathlib import Path

import pytest

from loop import profiling
from loop.profiling import PARTS, REST, TABLE, TRACE, Part, profiled
from store.database import Store


class Work:
    """Something to be measured."""

    def outer(self) -> str:
        time.sleep(0.02)
        return self.inner()

    def inner(self) -> str:
        time.sleep(0.03)
        return "done"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    here = f"{__name__}:Work"
    monkeypatch.setattr(profiling, "PARTS", (Part("outer", f"{here}.outer"), Part("inner", f"{here}.inner")))


def test_a_part_has_the_time_that_the_parts_it_calls_have_not(parts: None, tmp_path: Path) -> None:
    with profiled(tmp_path) as profile:
        started = time.perf_counter()
        with profile.phase(1, "sample"):
            assert Work().outer() == "done"
        seconds = time.perf_counter() - started
    spent = profile.phases["sample"]
    assert [spent[name].calls for name in ("outer", "inner", REST)] == [1, 1, 1]
    assert spent["outer"].seconds >= 0.02
    assert spent["inner"].seconds >= 0.03
    assert sum(each.seconds for each in spent.values()) == pytest.approx(seconds, abs=0.005)


def test_the_trace_has_a_span_inside_the_one_that_called_it(parts: None, tmp_path: Path) -> None:
    with profiled(tmp_path) as profile, profile.phase(3, "update"):
        Work().outer()
    inner, outer, phase = json.loads((tmp_path / TRACE).read_text())
    assert [event["name"] for event in (inner, outer, phase)] == ["inner", "outer", "round 3: update"]
    assert phase["ts"] <= outer["ts"] <= inner["ts"]
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 1
    assert "| **update** | 1 round |" in (tmp_path / TABLE).read_text()


def test_another_threads_calls_are_not_measured(parts: None, tmp_path: Path) -> None:
    with profiled(tmp_path) as profile, profile.phase(1, "judge"):
        thread = threading.Thread(target=Work().inner)
        thread.start()
        thread.join()
    assert "inner" not in profile.phases["judge"]


def test_a_phase_that_fails_is_in_the_trace(parts: None, tmp_path: Path) -> None:
    def fail() -> None:
        with profiled(tmp_path) as profile, profile.phase(1, "swap"):
            Work().inner()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(json.loads((tmp_path / TRACE).read_text())) == 2
    assert "**swap**" in (tmp_path / TABLE).read_text()


def test_afterwards_functions_are_as_they_were(parts: None, tmp_path: Path) -> None:
    own = Work.outer
    with profiled(tmp_path):
        assert Work.outer is not own
    assert Work.outer is own


def test_what_is_done_inside_a_context_manager_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(profiling, "PARTS", (Part("transactions", "store.database:Store.transaction"),))
    from store import open_store

    store = open_store(tmp_path, create=True)
    with profiled(tmp_path) as profile, profile.phase(1, "pair"), store.transaction():
        time.sleep(0.02)
    store.close()
    assert profile.phases["pair"]["transactions"].seconds >= 0.02
    assert "measured" not in Store.transaction.__qualname__


@pytest.mark.heavy
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.function)
def test_every_part_is_there(part: Part) -> None:
    found = profiling._find(part.function)
    assert found is not None
    assert callable(getattr(*found))
