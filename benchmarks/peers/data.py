"""The inputs of every peer: the cold start's weights and rationales, and the questions, as plain rows."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from judges import Output, find_judge, give_verdicts
from loop.config.load import parse_config
from loop.config.schema import Config
from store import open_store
from store.questions import Question, find_questions, load_image
from store.rounds import get_policy

RATIONALES = """
SELECT sample.question, sample.text FROM sample JOIN verdict ON verdict.sample = sample.id
WHERE sample.round = 0 AND sample.author = 'teacher' AND verdict.outcome = 'correct' ORDER BY sample.question"""


@dataclass(frozen=True)
class Row:
    """A question for a peer: both prompts, the images, and the judge of its outputs."""

    question: Question
    cot: str
    direct: str
    images: tuple[Image, ...]

    def is_right(self, output: str, *, stopped: bool = True) -> bool:
        """The verdict of the loop's own judge on a chain of thought."""
        reason = "stop" if stopped else "length"
        given = Output(output, self.question.answers, self.question.choices, reason, needs_marker=True)
        (verdict,) = give_verdicts(find_judge(self.question.judge), [given])
        return verdict.outcome == "correct"


@dataclass(frozen=True)
class Data:
    """The data that every arm begins with."""

    config: Config
    model: Path
    train: list[Row]
    test: list[Row]
    rationales: list[tuple[Row, str]]

    def draw(self, seed: int, number: int) -> list[Row]:
        """Draw the questions of a round, as many as the loop asks."""
        return random.Random(f"{seed}/{number}").sample(self.train, self.config.sampling.questions)


def read_start(run_dir: Path, reported: int) -> Data:
    """Read a run that has only its cold start, with `reported` of its test questions."""
    store = open_store(run_dir, read_only=True)
    config = parse_config(json.loads(store.value("SELECT configuration FROM run")), str(run_dir))
    rows: dict[int, Row] = {}

    def row(question: Question) -> Row:
        if question.id not in rows:
            cot, direct = (config.prompts.lay_out(style, question.text) for style in ("cot", "direct"))
            images = tuple(load_image(store, name) for name in question.images)
            rows[question.id] = Row(question, cot, direct, images)
        return rows[question.id]

    train = [row(each) for each in find_questions(store, "split = 'train' ORDER BY id")]
    test = [row(each) for each in find_questions(store, "split = 'test' ORDER BY id LIMIT ?", reported)]
    said = store.rows(RATIONALES)
    rationales = [(rows[each["question"]], str(each["text"])) for each in said if each["question"] in rows]
    model = run_dir / get_policy(store, 1).path
    store.close()
    return Data(config, model, train, test, rationales)
