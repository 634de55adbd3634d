"""Bringing questions into a run: all of a source, or of a file, or nothing."""

from collections.abc import Iterator
from pathlib import Path

import transformers

from loop.config.schema import Config
from loop.errors import InputError
from loop.questions.registry import ReadQuestions
from loop.questions.sources.jsonl import read_file
from loop.reporting import Reporter
from policies.encoding import is_vision_model
from store import Store
from store.questions import (
    NewQuestion,
    add_questions,
    asks_judge_llm,
    count_by_split,
    count_images,
    has_questions,
    most_images,
)


def ingest(store: Store, config: Config, read_questions: ReadQuestions, reporter: Reporter) -> None:
    """Ingest the configured source once; a run that has questions is left as it is."""
    if has_questions(store):
        return

    def counted() -> Iterator[NewQuestion]:
        with reporter.bar("reading questions", 0, "question") as bar:
            for question in read_questions(config.questions):
                yield question
                bar.update()

    with store.transaction():
        added = add_questions(store, counted())
        counts = count_by_split(store)
        for split in ("train", config.evaluation.split):
            if not counts.get(split):
                raise InputError(
                    f"no question of split {split!r} among {added}; give rows a 'split', or see"
                    " questions.held_out_share"
                )
        _check_judges(store, config)
    images = count_images(store)
    reporter.say(f"{added} questions ({', '.join(f'{n} {split}' for split, n in counts.items())}), {images} images")


def _check_judges(store: Store, config: Config) -> None:
    """Judge `llm` needs somebody to ask; said before anything is loaded."""
    if config.judging.base_url is None and asks_judge_llm(store):
        raise InputError("judge 'llm' needs judging.base_url and judging.model: where it is asked")


def add_file(store: Store, config: Config, path: Path) -> int:
    """Add the new questions of a JSONL file; returns how many were new.

    The file is read whole before the store is locked. Raises InputError for rows that the run's
    model cannot take.
    """
    questions = list(read_file(path, config.questions))
    most = most_images(store)
    transformers.utils.logging.set_verbosity_error()
    vision = is_vision_model(config.policy.model, config.policy.trust_remote_code)
    for question in questions:
        if question.images and not vision:
            raise InputError(f"{question.where}: has images, but this run's model reads text only")
        if len(question.images) > most:
            raise InputError(f"{question.where}: has {len(question.images)} images; this run takes {most} at most")
    with store.transaction():
        added = add_questions(store, questions)
        _check_judges(store, config)
    return added
