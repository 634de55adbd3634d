"""Answers, shrunk candidates and the best policy on the pages."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from loop.pages.answers import COLUMNS, DRAWN, SHOWN_CHARACTERS, answers_section
from loop.pages.charts import charts
from loop.pages.figures import MAX_COUNTED, Counted, read_figures
from loop.pages.serve import application
from loop.reading.answer_balance import answer_balance
from store import Store, open_store
from tests.support.looked_at_run import ROUNDS, make_run
from tests.support.stores import change, shrink_last_round


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(make_run(tmp_path / "run"), read_only=True)
    yield opened
    opened.close()


def test_the_answers_chart_shows_the_distance_to_accepted_shares(store: Store) -> None:
    section = answers_section(read_figures(store))
    assert section.chart.options is not None
    drawn = {each["name"]: each for each in section.chart.options["series"]}
    assert len(drawn) == DRAWN
    for number in range(ROUNDS + 1):
        balance = {row["answer"]: row for row in answer_balance(store, number, "cot", "test")}
        point = drawn["no"]["data"][number]
        value = point["value"] if number == ROUNDS else point
        assert value == pytest.approx(100 * (balance["no"]["after"] - balance["no"]["accepted"]), abs=0.01)
    assert section.chart.tips[-1].startswith("round 3\nno, accepted 33.3%: +50.0 (83.3%)\n")
    assert [row[0] for row in section.chart.table] == ["start", "1", "2", "3"]
    assert all(len(row) == len(COLUMNS) for row in section.table)
    assert section.table[0] == ("no", "33.3%", "66.7%", "83.3%", "0", "0")
    assert "policy 3 before, policy 4 after (rejected)" in section.says


def test_long_answers_are_cut_and_hidden_characters_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    change(
        run, "UPDATE question SET answers = json_array(?) WHERE split = 'test'", parameters=("\x1b" * 9 + "x" * 999,)
    )
    opened = open_store(run)
    section = answers_section(read_figures(opened))
    opened.close()
    ((name, *_),) = section.table
    assert name == f"[ESC x9]{'x' * 999}"[:SHOWN_CHARACTERS] + "…"
    assert section.chart.columns[1].startswith(name)


def test_long_runs_count_answers_in_forty_rounds_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=60)
    opened, counted = open_store(run, read_only=True), Counted()
    figures = read_figures(opened, counted)
    assert len(figures.answers) == MAX_COUNTED
    assert (min(figures.answers), max(figures.answers)) == (0, 60)
    assert "40 of 61 rounds." in answers_section(figures).chart.says
    assert counted.answers == figures.answers
    counted.answers[0] = {"kept": (0.5, 0.5)}
    assert read_figures(opened, counted).answers[0] == {"kept": (0.5, 0.5)}
    opened.close()
    change(run, "UPDATE round SET phase = 'gate' WHERE number = 60")
    opened, counted = open_store(run, read_only=True), Counted()
    assert max(read_figures(opened, counted).answers) == 60
    assert 60 not in counted.answers
    opened.close()


@pytest.fixture
def shrunk_run(tmp_path: Path) -> Path:
    """Round 3 ended with a shrunk policy, 5; policy 3, of round 2, is still the best."""
    run = make_run(tmp_path / "run")
    shrink_last_round(run, best=3)
    return run


def test_the_page_names_shrunk_candidates_and_the_best_policy(shrunk_run: Path) -> None:
    page = TestClient(application(shrunk_run), base_url="http://127.0.0.1:8000").get("/").text
    assert '<span class="badge accepted">shrunk 0.5</span>' in page
    assert "Best policy 3; rounds go on from policy 5." in page
    assert page.count("best policy 3") == 2
    assert page.count("best policy 3; rounds go on from 5; ") == 1
    change(shrunk_run, "UPDATE round SET best_policy = 5 WHERE number = 3")
    page = TestClient(application(shrunk_run), base_url="http://127.0.0.1:8000").get("/").text
    assert "Best policy 5." in page
    assert "go on from" not in page


def test_the_lineage_joins_a_shrunk_policy_to_both_parents(
    shrunk_run: Path,
) -> None:
    opened = open_store(shrunk_run, read_only=True)
    lineage = next(chart for chart in charts(read_figures(opened)) if chart.key == "lineage")
    opened.close()
    assert lineage.options is not None
    (graph,) = lineage.options["series"]
    points = {each["name"]: each for each in graph["data"]}
    assert [points[name]["symbol"] for name in ("3", "4", "5")] == ["circle", "emptyCircle", "circle"]
    assert points["3"]["symbolSize"] > points["5"]["symbolSize"]
    assert {link["source"] for link in graph["links"] if link["target"] == "5"} == {"3", "4"}
    rows = {row[0]: row for row in lineage.table}
    assert rows["5"][1:4] == ("3, 4", "shrunk 0.5", "3")
    assert (rows["3"][6], rows["4"][6], rows["5"][6]) == ("best", "rejected", "accepted")
