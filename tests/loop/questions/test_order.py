"""Which questions rounds ask."""

from contextlib import closing
from pathlib import Path

from store import open_store


def test_rounds_ask_training_questions_only_and_evaluations_held_out_ones_only(scripted_run_dir: Path) -> None:
    asked = "SELECT DISTINCT split FROM round_question JOIN question ON question.id = question"
    evaluated = "SELECT DISTINCT question.split FROM evaluation JOIN question ON question.id = question"
    with closing(open_store(scripted_run_dir, read_only=True)) as store:
        assert [row[0] for row in store.rows(asked)] == ["train"]
        assert [row[0] for row in store.rows(evaluated)] == ["test"]
