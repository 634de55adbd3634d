"""Adds questions to a run: all of a source or file, or none."""

from collections.abc import Callable, Iterator
from pathlib import Path

import transformers

from loop.config.schema import Config
from loop.errors import InputError
from loop.questions.limits import Limits
from loop.questions.registry import ReadQuestions
from loop.questions.sources.jsonl import read_file
from loop.questions.split_table import SplitTable, require_splits
from loop.reporting import Reporter
from policies.encoding import Encoder
from store import Store
from store.new_questions import NewQuestion, staged_questions
from store.questions import (
    asks_judge,
    count_by_split,
    count_images,
    has_questions,
    load_image,
    most_images,
    newest_question,
)
from store.unusable import count_unusable


def ingest(
    store: Store,
    config: Config,
    read_questions: ReadQuestions,
    reporter: Reporter,
    make_encoder: Callable[[], Encoder | None] = lambda: None,
) -> None:
    """Ingest the configured source, unless the run already has questions.

    Without an encoder the questions' lengths are not checked against the model's context.
    """
    if has_questions(store):
        return
    limits, table = Limits(config, make_encoder()), SplitTable()
    questions = limits.applied(read_questions(config.questions, reporter), store)
    with staged_questions(store, table.counted(questions, reporter)) as staged:
        require_splits(table.rows, config.evaluation.split)
        staged.add_images()
        with store.transaction():
            added = staged.add()
            _check_judges(store, config)
    counts = count_by_split(store)
    images = count_images(store)
    reporter.say(f"{added} questions ({', '.join(f'{n} {split}' for split, n in counts.items())}), {images} images")
    for line in table.lines(config.questions):
        reporter.say(line)
    _say_unusable(store, 0, reporter)


def _say_unusable(store: Store, before: int, reporter: Reporter) -> None:
    if count := count_unusable(store) - before:
        reporter.say(
            f"{count} of them too long: unusable, never asked ('show {store.path.parent} question --unusable')"
        )


def _check_judges(store: Store, config: Config) -> None:
    """Raise InputError if judge `llm` has no endpoint, or if judge `preference` has no prompt with its tag."""
    if config.judging.base_url is None and asks_judge(store, "llm"):
        raise InputError("judge 'llm' needs judging.base_url and judging.model: where it is asked")
    if config.sampling.style == "cot" and "<answer>" not in config.prompts.cot and asks_judge(store, "preference"):
        raise InputError(
            'prompts.cot must ask for the verdict in its tag, for example "...then give <answer>1</answer> or'
            " <answer>2</answer>\": judge 'preference' reads nothing else"
        )


def add_file(store: Store, config: Config, path: Path, reporter: Reporter) -> int:
    """Add the new questions of a JSONL file; returns how many were new.

    The file is read and its images are decoded before the store is locked, and images are stored in several
    transactions, so a run that works meanwhile waits only briefly. One transaction stores all questions or none.
    Raises InputError for rows that the run's model cannot take, as `Limits` says.
    """
    newest, unusable = newest_question(store), count_unusable(store)
    questions, table = read_file(path, config.questions, reporter, store), SplitTable()
    transformers.utils.logging.set_verbosity_error()
    policy = config.policy
    encoder = Encoder(
        policy.model,
        lambda digest: load_image(store, digest),
        trust_remote_code=policy.trust_remote_code,
        chat_settings=policy.chat,
    )
    taken = _taken(questions, most_images(store) if encoder.is_vision else 0)
    taken = Limits(config, encoder).applied(taken, store)
    with staged_questions(store, table.counted(taken, reporter)) as staged:
        staged.add_images()
        with store.transaction():
            if newest_question(store) != newest:
                raise InputError(f"{path}: another process added questions meanwhile; add the file again")
            added = staged.add()
            _check_judges(store, config)
    for line in table.lines(config.questions):
        reporter.say(line)
    _say_unusable(store, unusable, reporter)
    return added


def _taken(questions: Iterator[NewQuestion], takes: int) -> Iterator[NewQuestion]:
    """The questions; InputError for one with more images than the run's model takes."""
    for question in questions:
        if question.images and not takes:
            raise InputError(f"{question.where}: has images, but this run's model reads text only")
        if len(question.images) > takes:
            raise InputError(f"{question.where}: has {len(question.images)} images; this run takes {takes} at most")
        yield question
