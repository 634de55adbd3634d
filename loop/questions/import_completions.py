"""Imports other trainers' logs of completions into a separate store, for the views."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from judges import JudgeSpecError, extract_answer, find_judge, give_verdict
from loop.config.load import parse_config
from loop.config.schema import Config
from loop.errors import InputError
from loop.questions.completion_formats import ADVANTAGE, Completion, read_completion
from loop.questions.row_files import read_rows
from loop.reporting import Reporter
from store import Store
from store.completions import NewCompletion, add_imported_policy, add_step, has_round, is_imported
from store.database import as_json
from store.new_questions import NewQuestion, add_questions, question_with_hash
from store.sessions import record_configuration, stored_configuration

SOURCE = SPLIT = "imported"
STYLE = "cot"
DECIDES = {"verl": "score", "verifiers": "reward"}
"""The number that says how good a completion is, where the trainer has one name for it."""


@dataclass
class Seen:
    """The content of the files in figures, counted before anything is stored."""

    completions: int = 0
    missing_images: int = 0
    steps: dict[int, Path] = field(default_factory=dict)
    rewards: set[str] = field(default_factory=set)
    trainers: set[str] = field(default_factory=set)
    unanswered: str | None = None
    """Where the first completion without an accepted answer stands."""


@dataclass(frozen=True)
class Wanted:
    """The rule for verdicts: the rewards that are summed and the least sum of a correct completion, or the judge."""

    rewards: tuple[str, ...]
    correct_from: float
    judge: str


def import_completions(
    store: Store,
    path: Path,
    reporter: Reporter,
    rewards: Sequence[str],
    correct_from: float,
    answer: str | None,
    judge: str,
) -> tuple[int, int]:
    """Keep the completions of a file, or of every .parquet or .jsonl file in a folder, each step as a round.

    All files are read and checked first. A step that the store has is left as it is. A verdict is `correct` where the
    sum of the named `rewards` reaches `correct_from`; logs without rewards are judged by `judge` against the accepted
    answer. Returns how many completions and steps are new. Raises InputError naming the file and row.
    """
    try:
        find_judge(judge)
    except JudgeSpecError as error:
        raise InputError(f"--judge: {error}") from error
    files = _files(path)
    with reporter.bar(f"checking {path.name}", 0, "completion") as bar:
        seen = Seen()
        for file in files:
            for _, completion in _look(file, answer, seen):
                bar.update(completion is not None)
    wanted = Wanted(_deciding(path, seen, rewards), correct_from, judge)
    if not wanted.rewards and seen.unanswered is not None:
        raise InputError(f"{seen.unanswered}: no reward and no accepted answer; name its column with --answer")
    _begin(store, path, judge)
    if seen.missing_images:
        reporter.say(f"{seen.missing_images:,} images are not in {path}: its trainer left them out")
    added = steps = 0
    with reporter.bar(f"storing {path.name}", seen.completions, "completion") as bar:
        for file in files:
            rows = sorted(_look(file, answer, Seen()), key=lambda row: row[1].step)
            for step, group in groupby(rows, key=lambda row: row[1].step):
                completions = list(group)
                bar.update(len(completions))
                if not has_round(store, step):
                    _add_step(store, file, step, completions, wanted)
                    added, steps = added + len(completions), steps + 1
    return added, steps


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(each for each in path.iterdir() if each.suffix in (".parquet", ".jsonl"))
    if not files:
        raise InputError(f"{path} holds no .parquet and no .jsonl file")
    return files


def _look(file: Path, answer: str | None, seen: Seen) -> Iterator[tuple[str, Completion]]:
    """Yield (place, completion) of each row, and count the file's content in `seen`."""
    for number, row in read_rows(file):
        where = f"{file}, line {number}"
        completion = read_completion(row, where, answer)
        if (other := seen.steps.setdefault(completion.step, file)) != file:
            raise InputError(f"{where}: step {completion.step} is in {other.name} too; import one of the two files")
        seen.completions += 1
        seen.missing_images += completion.missing_images
        seen.rewards |= completion.rewards.keys()
        seen.trainers.add(completion.trainer)
        if not completion.answers:
            seen.unanswered = seen.unanswered or where
        yield where, completion


def _deciding(path: Path, seen: Seen, named: Sequence[str]) -> tuple[str, ...]:
    if not seen.completions:
        raise InputError(f"{path} holds no completions")
    present = sorted(seen.rewards - {ADVANTAGE})
    if missing := [name for name in named if name not in seen.rewards]:
        raise InputError(f"--reward {missing[0]}: {path} has no such number; it has {', '.join(present) or 'none'}")
    if named:
        return tuple(named)
    (trainer, *others) = sorted(seen.trainers)
    if others:
        raise InputError(f"{path} holds rows of {trainer} and of {others[0]}; import them one after the other")
    if (known := DECIDES.get(trainer)) in seen.rewards:
        return (str(known),)
    if len(present) > 1:
        raise InputError(
            f"{path} has the numbers {', '.join(present)}; name those that say what is right with --reward"
        )
    return tuple(present)


def _begin(store: Store, path: Path, judge: str) -> None:
    """A new store gets a configuration that says where its questions come from, and the one policy."""
    if stored_configuration(store) is not None:
        if not is_imported(store):
            raise InputError(f"{store.path.parent} holds a run; give a new directory for another trainer's completions")
        return
    with store.transaction():
        record_configuration(store, 0, _configuration(path, judge).model_dump(mode="json"), {})
        add_imported_policy(store)


def _configuration(path: Path, judge: str) -> Config:
    tables = {
        "run": {"rounds": 0},
        "policy": {"model": SOURCE},
        "questions": {"source": "jsonl", "path": str(path.resolve()), "judge": judge},
        "teacher": {"enabled": False},
    }
    return parse_config(tables, str(path))


def _add_step(
    store: Store, file: Path, step: int, completions: Sequence[tuple[str, Completion]], wanted: Wanted
) -> None:
    questions = [
        NewQuestion(each.prompt, each.answers, each.images, SPLIT, SOURCE, wanted.judge, where=where)
        for where, each in completions
    ]
    add_questions(store, questions)
    ids = [question_with_hash(store, question.hash) for question in questions]
    asked = dict.fromkeys(ids, 0)
    new = []
    for question, (_, each) in sorted(zip(ids, completions, strict=True), key=itemgetter(0)):
        assert question is not None
        verdict = _verdict(each, wanted)
        new.append(NewCompletion(question, asked[question], each.text, each.finish_reason, each.rewards, verdict))
        asked[question] += 1
    add_step(store, step, STYLE, new, file.name)


def _verdict(completion: Completion, wanted: Wanted) -> tuple[str, str, str | None, float, str, str]:
    """judge, judge_version, extracted, score, outcome, flags. The trainer is the version of its rewards."""
    if not wanted.rewards:
        judge = find_judge(wanted.judge)
        given = give_verdict(
            judge, completion.text, completion.answers, finish_reason=completion.finish_reason, needs_marker=True
        )
        return judge.name, judge.version, given.extracted, given.score, given.outcome, as_json(list(given.flags))
    name = f"reward({', '.join(wanted.rewards)})"
    extracted = extract_answer(completion.text, needs_marker=True)
    present = [completion.rewards[each] for each in wanted.rewards if each in completion.rewards]
    if not present:
        return name, completion.trainer, extracted, 0.0, "judge_error", as_json(["no_reward"])
    score = sum(present)
    return name, completion.trainer, extracted, score, "correct" if score >= wanted.correct_from else "wrong", "[]"
