"""Your own questions: a JSON object a line, images by path relative to the file.

`{"question", "answer" or "answers", "images": [...], "choices"?, "judge"?, "kind"?, "id"?, "split"?}`. Rows without a
split are held out by a hash of question and answers, so the same row lands in the same split every time:
`test` is what accuracies are reported on, `gate` what the gate decides by. `kind` groups the accuracies.
Where the recipe sets `questions.unlabelled`, a row may have no answer; it is never held out.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from judges import Judge, JudgeSpecError, find_judge
from loop.config.schema import QuestionsConfig
from loop.errors import InputError
from loop.questions.splits import SPLITS, held_out_split
from store.questions import NewQuestion

SOURCE = "jsonl"
KEYS = {"question", "answer", "answers", "choices", "images", "judge", "kind", "id", "split"}


def read_questions(config: QuestionsConfig) -> Iterator[NewQuestion]:
    """Questions of `questions.path`; raises InputError naming the line of a bad row."""
    assert config.path is not None
    yield from read_file(Path(config.path), config)


def read_file(path: Path, config: QuestionsConfig) -> Iterator[NewQuestion]:
    """Questions of one file. An empty line is skipped; anything else must be a whole row."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"questions file {path} cannot be read: {error}") from error
    count = 0
    for number, line in enumerate(lines, 1):
        if line.strip():
            count += 1
            yield _question(line, path, f"{path}, line {number}", config)
    if count == 0:
        raise InputError(f"{path} holds no questions; write one JSON object a line")


def _question(line: str, path: Path, where: str, config: QuestionsConfig) -> NewQuestion:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object")
    if unknown := sorted(row.keys() - KEYS):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(KEYS))}")
    text = row.get("question")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: 'question' must be a text that is not empty")
    unlabelled = config.unlabelled and "answer" not in row and "answers" not in row
    answers = [] if unlabelled else _answers(row, where)
    judge = _judge(row, answers, where, config)
    choices = row.get("choices", [])
    if not isinstance(choices, list) or not all(isinstance(each, str) and each.strip() for each in choices):
        raise InputError(f"{where}: 'choices' must be a list of texts that are not empty")
    names = row.get("images", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{where}: 'images' must be a list of paths")
    split = row.get("split", "train" if unlabelled else held_out_split([text, *answers], config))
    if split not in SPLITS:
        raise InputError(f"{where}: 'split' must be one of {', '.join(SPLITS)}, not {split!r}")
    if unlabelled and split != "train":
        raise InputError(f"{where}: a held-out question needs an answer")
    kind = row.get("kind")
    if kind is not None and (not isinstance(kind, str) or not kind.strip()):
        raise InputError(f"{where}: 'kind' must be a text that is not empty")
    external_id = row.get("id")
    return NewQuestion(
        text=text,
        answers=answers,
        images=[read_image(path.parent, name, where) for name in names],
        split=split,
        source=SOURCE,
        judge=judge.name,
        external_id=None if external_id is None else str(external_id),
        where=where,
        choices=choices,
        kind=kind,
    )


def _judge(row: dict[str, Any], answers: list[str], where: str, config: QuestionsConfig) -> Judge:
    """The row's judge; only the recipe may name one that runs code (`python`): a row is data."""
    spec = row.get("judge", config.judge)
    if not isinstance(spec, str):
        raise InputError(f"{where}: 'judge' must be a text")
    if spec.strip().startswith("python") and spec != config.judge:
        raise InputError(f"{where}: judge 'python' runs code of yours; name it in the recipe (questions.judge)")
    try:
        judge = find_judge(spec)
        if answers:
            judge.check_answers(answers)
    except JudgeSpecError as error:
        raise InputError(f"{where}: {error}") from error
    return judge


def _answers(row: dict[str, Any], where: str) -> list[str]:
    if ("answer" in row) == ("answers" in row):
        raise InputError(f"{where}: needs 'answer' (one) or 'answers' (a list), and not both")
    answers = row["answers"] if "answers" in row else [row["answer"]]
    if not isinstance(answers, list) or not answers:
        raise InputError(f"{where}: 'answers' must be a list with at least one answer")
    texts = [str(a) if isinstance(a, int | float) and not isinstance(a, bool) else a for a in answers]
    if not all(isinstance(a, str) and a.strip() for a in texts):
        raise InputError(f"{where}: every answer must be a text or number that is not empty")
    return texts


def read_image(folder: Path, name: str, where: str) -> bytes:
    """The bytes of an image file under the folder; raises InputError if it lies elsewhere or cannot be read."""
    root = folder.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise InputError(f"{where}: image {name!r} lies outside {root}; keep images beside the file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: image {name!r} cannot be read ({error.strerror})") from error
