"""Your own questions: a JSON object a line, images by path relative to the file.

`{"question", "answer" or "answers", "images": [...], "judge"?, "id"?, "split"?}`. Rows without a
split are held out by a hash of question and answers, so the same row lands in the same split every time.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from judges import JUDGES
from loop.config import QuestionsConfig
from loop.errors import InputError
from store.questions import NewQuestion

SOURCE = "jsonl"
KEYS = {"question", "answer", "answers", "images", "judge", "id", "split"}


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
    answers = _answers(row, where)
    judge = row.get("judge", config.judge)
    if judge not in JUDGES:
        raise InputError(f"{where}: judge {judge!r} is unknown; known: {', '.join(sorted(JUDGES))}")
    names = row.get("images", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{where}: 'images' must be a list of paths")
    split = row.get("split", _split([text, *answers], config.held_out_share))
    if split not in ("train", "test"):
        raise InputError(f"{where}: 'split' must be 'train' or 'test', not {split!r}")
    external_id = row.get("id")
    return NewQuestion(
        text=text,
        answers=answers,
        images=[read_image(path.parent, name, where) for name in names],
        split=split,
        source=SOURCE,
        judge=judge,
        external_id=None if external_id is None else str(external_id),
        where=where,
    )


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


def _split(content: list[str], held_out_share: float) -> str:
    fraction = int.from_bytes(hashlib.sha256(json.dumps(content).encode()).digest()[:8]) / 2**64
    return "test" if fraction < held_out_share else "train"


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
