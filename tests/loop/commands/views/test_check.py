"""`check`, archive, retention: what is wrong is named, what moved is still seen, what was deleted is remembered."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from loop.commands.views.check import check_run
from loop.config.load import parse_config
from loop.config.machine import RetentionConfig
from loop.retention import kept_policies
from loop.terminal.console import Console
from policies.weights import deleting, reading, weights_sha256
from store import StoreError, open_store
from store.maintenance.archive import archive_round, find_sample, round_samples, rounds_to_archive
from store.maintenance.check import find_faults
from store.new_questions import NewQuestion, add_questions
from store.rounds import Policy, add_policy, end_phase, mark_deleted, record_decision, start_round
from tests.support.command_line import PROJECT, run_command

FIXTURES = PROJECT / "tests" / "fixtures"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run of two rounds with weights that are small, but whole."""
    shutil.copy(FIXTURES / "store_m001.db", tmp_path / "store.db")
    store = open_store(tmp_path)
    with store.transaction():
        for row in store.rows("SELECT number FROM policy"):
            path = tmp_path / f"policies/{row['number']:04d}"
            path.mkdir(parents=True)
            (path / "model.safetensors").write_bytes(b"weights %d" % row["number"])
            digest = hashlib.sha256(b"weights %d" % row["number"]).hexdigest()
            store.connection.execute(
                "UPDATE policy SET sha256 = ?, path = ? WHERE number = ?",
                (digest, f"policies/{path.name}", row["number"]),
            )
    store.close()
    return tmp_path


def test_a_whole_run_has_no_faults_and_is_not_touched(run_dir: Path) -> None:
    before = (run_dir / "store.db").read_bytes()
    assert "nothing wrong" in run_command("check", run_dir).stdout
    assert json.loads(run_command("check", run_dir, "--json").stdout) == {"faults": []}
    assert (run_dir / "store.db").read_bytes() == before


HARM = {
    "DELETE FROM verdict WHERE sample = 40": "sample 40: round 1 is past judging, and it has no verdict",
    "DELETE FROM sample WHERE id = 41": "verdict of sample 41 by exact 1: there is no such sample",
    "UPDATE sample SET question = 1 WHERE id = 42": "sample 42: not of a question that round 2 asks",
    "UPDATE pair SET rejected = chosen WHERE id = 2": "pair 2: its two samples answer different questions",
    "UPDATE question SET text = 'altered' WHERE id = 3": "question 3: text, answers, judge, split or images were alt",
    "UPDATE image SET bytes = x'00' WHERE rowid = 1": "its bytes are not those of its hash",
    "DELETE FROM training WHERE candidate = 2": "policy 2: trained, but no training is recorded",
    "UPDATE verdict SET outcome = 'wrong' WHERE outcome = 'correct'": "round_summary 1: its figures are not those",
    "UPDATE evaluation_summary SET correct = correct + 1 WHERE policy = 1": "policy 1: its figures are not",
    "UPDATE comparison SET gained = gained + 1 WHERE policy = 2": "comparison of policies 2 and 1: its figures are not",
    "UPDATE round SET decision = NULL WHERE number = 2": "round 2: is done without a decision",
}


@pytest.mark.parametrize(("harm", "fault"), HARM.items())
def test_every_kind_of_harm_is_named_by_its_row(run_dir: Path, harm: str, fault: str) -> None:
    store = open_store(run_dir)
    store.connection.execute("PRAGMA foreign_keys = OFF")
    store.connection.execute(harm)
    store.connection.commit()
    assert any(fault in each for each in find_faults(store, lambda _: None)), list(find_faults(store, lambda _: None))
    store.close()


def test_missing_altered_and_left_over_weights_are_named(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "policies/0001")
    (run_dir / "policies/0002/model.safetensors").write_bytes(b"altered")
    shutil.copytree(run_dir / "policies/0003", run_dir / "policies/0004.tmp")
    done = run_command("check", run_dir, check=1)
    faults = done.stdout.splitlines()
    assert len(faults) == 3
    assert "policy 1" in faults[0] and "holds no weights" in faults[0]  # noqa: PT018
    assert "policy 2" in faults[1] and "the store recorded" in faults[1]  # noqa: PT018
    assert "policies/0004.tmp: belongs to no policy" in faults[2]


def test_weights_that_the_open_round_writes_are_no_fault(run_dir: Path) -> None:
    for name in ("0004", "0004.tmp"):
        shutil.copytree(run_dir / "policies/0003", run_dir / "policies" / name)
    store = open_store(run_dir)
    assert run_command("check", run_dir, check=1).stdout.count("belongs to no policy") == 2
    start_round(store, 3, "update", 3, [])
    assert "nothing wrong" in run_command("check", run_dir).stdout
    record_decision(store, 3, "rejected", "worse")
    end_phase(store, 3, "gate", "done", 0.0)
    store.close()
    assert run_command("check", run_dir, check=1).stdout.count("belongs to no policy") == 2


def test_weights_deleted_while_they_are_checked_are_no_fault(run_dir: Path) -> None:
    def delete_first(directory: Path) -> str:
        number = int(directory.name)
        if number in (1, 2):
            mark_deleted(store, number)
        if number == 1:
            shutil.rmtree(directory)
        if number == 2:  # as where the first of several files is gone
            (directory / "model.safetensors").write_bytes(b"the rest")
        return weights_sha256(directory)

    store = open_store(run_dir)
    assert check_run(store, run_dir, Console(quiet=True), delete_first) == []
    store.close()


def test_archived_rounds_are_still_seen(run_dir: Path) -> None:
    run_command("export", run_dir, "samples", "-o", run_dir / "before.jsonl")
    log = run_command("log", run_dir).stdout
    store = open_store(run_dir)
    history = [tuple(row) for row in store.rows("SELECT * FROM question_history ORDER BY round, question")]
    here = {row["id"]: row for row in round_samples(store, 1)}
    assert rounds_to_archive(store, 1) == [0]
    store.close()
    moved = json.loads(run_command("archive", run_dir, "--older-than", 0, "--json").stdout)
    assert moved["rounds"] == [0, 1]
    assert moved["samples"] > 20
    run_command("export", run_dir, "samples", "-o", run_dir / "after.jsonl")
    assert (run_dir / "before.jsonl").read_bytes() == (run_dir / "after.jsonl").read_bytes()
    assert run_command("log", run_dir).stdout == log
    assert "nothing wrong" in run_command("check", run_dir).stdout
    store = open_store(run_dir)
    assert store.value("SELECT count(*) FROM sample WHERE round = 1") == 32 - moved["samples"]
    assert [tuple(row) for row in store.rows("SELECT * FROM question_history ORDER BY round, question")] == history
    assert all(find_sample(store, number) == row for number, row in here.items())
    with pytest.raises(StoreError, match="has no sample 999"):
        find_sample(store, 999)
    assert store.value("SELECT count(*) FROM pair_detail") == 6
    assert rounds_to_archive(store, 0) == []
    store.close()
    (run_dir / "archive" / "round-000001.parquet").write_bytes(b"altered")
    assert "archive 1: archive/round-000001.parquet was altered" in run_command("check", run_dir, check=1).stdout


def test_an_archive_that_a_crash_left_half_done_is_done_again(run_dir: Path) -> None:
    store = open_store(run_dir)
    (run_dir / "archive").mkdir()
    (run_dir / "archive" / "round-000001.parquet").write_bytes(b"left by a crash before it was recorded")
    before = [row["id"] for row in round_samples(store, 1)]
    assert archive_round(store, 1) > 0
    assert archive_round(store, 1) == 0
    assert [row["id"] for row in round_samples(store, 1)] == before
    store.close()


def test_the_serving_parent_best_and_every_kth_policy_are_kept(run_dir: Path) -> None:
    store = open_store(run_dir)
    with store.transaction():
        for number, parent in ((4, 3), (5, 3), (6, 5)):
            add_policy(store, Policy(number, parent, "dpo", "0" * 64, f"policies/{number:04d}", {}))
        store.connection.execute("UPDATE evaluation SET outcome = 'correct' WHERE policy = 2 AND style = 'cot'")
        store.connection.execute("UPDATE round SET decision = 'rejected' WHERE number = 2")
    start_round(store, 3, "sample", 5, [])
    with store.transaction():
        store.connection.execute("UPDATE round SET candidate_policy = 6 WHERE number = 3")
    config = parse_config(json.loads(store.value("SELECT configuration FROM run")), "run")
    # 0 is the base, 1 the cold start's, 2 the best.
    assert kept_policies(store, config) == {0, 1, 2, 3, 5, 6}
    record_decision(store, 3, "rejected", "worse")
    assert kept_policies(store, config) == {0, 1, 2, 3, 5}
    record_decision(store, 3, "accepted", "better")
    assert kept_policies(store, config) == {0, 1, 2, 5, 6}
    every_fourth = config.model_copy(update={"retention": RetentionConfig(keep_every=4)})
    assert kept_policies(store, every_fourth) == {0, 1, 2, 4, 5, 6}
    with store.transaction():  # all of one question is not the best of many
        store.connection.execute("""
            DELETE FROM evaluation WHERE policy = 2 AND id != (SELECT min(id) FROM evaluation
            WHERE policy = 2 AND style = 'cot' AND split = 'test')""")
    assert 2 not in kept_policies(store, config)
    store.close()


def test_weights_that_are_read_are_not_deleted(tmp_path: Path) -> None:
    with reading(tmp_path), deleting(tmp_path) as free:
        assert not free
    with deleting(tmp_path) as free:
        assert free


def test_a_question_with_options_is_as_it_was_added(tmp_path: Path) -> None:
    store = open_store(tmp_path, create=True)
    question = NewQuestion("which?", ["B"], [], "train", "jsonl", "choice", choices=["dog", "cat"])
    assert add_questions(store, [question]) == 1
    assert list(find_faults(store, lambda _: None)) == []
    with store.transaction():
        store.connection.execute('UPDATE question SET choices = \'["cat", "dog"]\'')
    (fault,) = find_faults(store, lambda _: None)
    assert "question 1" in fault
    store.close()
