"""Checks of the store: integrity, references, orphans, contents that do not match their hashes."""

from collections.abc import Callable, Iterator

from store.database import Store
from store.errors import StoreError
from store.maintenance.archive_place import FOLDER, sha256
from store.maintenance.damage import LOOKS, Fault, guarded
from store.schema.sums_007 import EVALUATION_GROUPS, EVALUATION_SUMS, round_sums
from store.schema.views_005 import COLUMNS
from store.summary import count_compared

ORPHANS = {
    "verdict of sample {sample} by {judge} {judge_version}: there is no such sample": """
        SELECT sample, judge, judge_version FROM verdict
        WHERE NOT EXISTS (SELECT 1 FROM sample WHERE sample.id = verdict.sample)""",
    "sample {id}: not of a question that round {round} asks": """
        SELECT id, round FROM sample WHERE author != 'imported' AND NOT EXISTS (SELECT 1 FROM round_question AS asked
        WHERE asked.round = sample.round AND asked.question = sample.question)""",
    "sample {id}: round {round} is past judging, and it has no verdict": """
        SELECT sample.id, sample.round FROM sample JOIN round ON round.number = sample.round
        WHERE sample.author != 'imported' AND round.phase NOT IN ('distil', 'sample', 'judge')
          AND NOT EXISTS (SELECT 1 FROM verdict WHERE verdict.sample = sample.id)""",
    "sample {id}: written by a policy that is not named": """
        SELECT id FROM sample WHERE author = 'policy' AND policy IS NULL""",
    "sample {id}: written by the teacher without a call": """
        SELECT id FROM sample WHERE author = 'teacher' AND teacher_call IS NULL""",
    "pair {id}: its two samples answer different questions": """
        SELECT pair.id FROM pair JOIN sample AS chosen ON chosen.id = pair.chosen
        JOIN sample AS rejected ON rejected.id = pair.rejected
        WHERE chosen.question != rejected.question OR chosen.id = rejected.id""",
    "pair {id}: imported, but from no file": """
        SELECT id FROM pair WHERE source = 'imported'
          AND NOT EXISTS (SELECT 1 FROM imported_pair WHERE imported_pair.pair = pair.id)""",
    "policy {number}: trained, but no training is recorded": """
        SELECT number FROM policy WHERE parent IS NOT NULL AND alpha IS NULL
          AND NOT EXISTS (SELECT 1 FROM training WHERE training.candidate = policy.number)""",
    "policy {number}: shrunk, but not between two policies": """
        SELECT number FROM policy WHERE alpha IS NOT NULL AND (parent IS NULL OR other_parent IS NULL)""",
    "round {number}: is done without a decision": """
        SELECT number FROM round WHERE phase = 'done' AND decision IS NULL""",
    "round {number}: is open although a later round has started": """
        SELECT number FROM round WHERE phase != 'done' AND number < (SELECT max(number) FROM round)""",
    "question_image: question {question}, position {position}: image {image} is missing": """
        SELECT question, position, image FROM question_image
        WHERE NOT EXISTS (SELECT 1 FROM image WHERE image.sha256 = question_image.image)""",
}


def find_faults(store: Store, step: Callable[[str], None]) -> Iterator[Fault]:
    """Every fault that can be found in the database alone; `step` receives the name of each check. Changes nothing."""
    orphans = {"orphans": _orphans, "figures of rounds": _summaries}
    for name, look in {**LOOKS, **orphans, "archive": _archives}.items():
        step(name)
        yield from guarded(name, look(store))


def _orphans(store: Store) -> Iterator[Fault]:
    for fault, sql in ORPHANS.items():
        yield from guarded("orphans", (fault.format(**dict(row)) for row in store.stream(sql)))


def _summaries(store: Store) -> Iterator[Fault]:
    with store.snapshot():  # a run that works meanwhile changes both sides
        yield from _wrong_summaries(store)


def _wrong_summaries(store: Store) -> Iterator[Fault]:
    wrong = (
        f"SELECT number FROM round WHERE phase = 'done' AND number NOT IN (SELECT round FROM archive) AND EXISTS"
        f" (SELECT * FROM ({round_sums('= round.number')}) EXCEPT SELECT {', '.join(COLUMNS)} FROM round_summary)"
    )
    for row in store.rows(wrong):
        yield f"round_summary {row['number']}: its figures are not those of the round's samples and verdicts"
    summed = "SELECT * FROM evaluation_summary"
    counted = f"{EVALUATION_SUMS} WHERE policy IN (SELECT policy FROM evaluation_summary) {EVALUATION_GROUPS}"
    altered = f"SELECT * FROM ({summed} EXCEPT {counted}) UNION SELECT * FROM ({counted} EXCEPT {summed})"
    for row in store.rows(f"SELECT DISTINCT policy FROM ({altered})"):
        yield f"evaluation_summary of policy {row['policy']}: its figures are not those of its evaluations"
    for row in store.rows("SELECT * FROM comparison"):
        if count_compared(store, *row[:4]) != row[4:]:
            yield f"comparison of policies {row['policy']} and {row['other']}: its figures are not those of evaluations"


def _archives(store: Store) -> Iterator[Fault]:
    folder = store.path.parent
    known = set()
    for row in store.rows("SELECT round, file, sha256 FROM archive ORDER BY round"):
        known.add(folder / row["file"])
        try:
            if sha256(folder, row["file"]) != row["sha256"]:
                yield f"archive {row['round']}: {row['file']} was altered"
        except FileNotFoundError:
            yield f"archive {row['round']}: {row['file']} is missing"
        except (OSError, StoreError) as error:
            yield f"archive {row['round']}: {row['file']} cannot be read ({error})"
    for path in sorted((folder / FOLDER).glob("*.parquet")):
        if path not in known:
            yield f"{FOLDER}/{path.name}: belongs to no archived round (left by a crash; it may be deleted)"
