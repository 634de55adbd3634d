"""Sources of questions: one file per source, registered in `SOURCES`."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from loop.config.questions import QuestionsConfig
from loop.questions.sources import easy_vqa, hub_datasets, jsonl, judge_traces, reasoning_gym, run_store
from loop.reporting import Reporter
from store.new_questions import NewQuestion


class ReadQuestions(Protocol):
    """A source's function: its questions, with a bar of the reporter's for what it does before the first one."""

    def __call__(self, config: QuestionsConfig, reporter: Reporter | None = None, /) -> Iterator[NewQuestion]:
        """Raises InputError naming what is wrong with a row or with the configuration."""


WriteRationale = Callable[[str, str | None, list[str]], str | None]
"""(question, accepted answer or None, image hashes) -> rationale, None for a question it does not know."""

SOURCES: dict[str, ReadQuestions] = {
    "datasets": hub_datasets.read_questions,
    "easy_vqa": easy_vqa.read_questions,
    "jsonl": jsonl.read_questions,
    "reasoning_gym": reasoning_gym.read_questions,
    "store": run_store.read_questions,
}

RATIONALES: dict[str, WriteRationale] = {
    "easy_vqa": easy_vqa.write_rationale,
    "reasoning_gym": reasoning_gym.write_rationale,
    "store": judge_traces.write_judgement,
}
"""What the embedded teacher writes, by source."""

FAITHFULNESS: dict[str, Callable[[str, Sequence[str]], bool | None]] = {"easy_vqa": easy_vqa.is_faithful}
"""Sources that can check a chain's own statements: (chain, image hashes) -> whether they are true."""
