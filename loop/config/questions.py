"""`[questions]`: the source of questions and the shares that are held out."""

from typing import Literal

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from judges import JudgeSpecError, find_judge
from judges.reasoning_gym import TASKS
from loop.config.dataset_keys import SOURCE, DatasetKeys
from loop.config.prompt_styles import PREFERENCE_PLACES
from loop.config.table import ConfigTable

PILLOW_PIXELS = 178_956_970
"""Pillow opens no larger image: twice its `MAX_IMAGE_PIXELS`."""


class TaskConfig(ConfigTable):
    """`[questions.tasks.NAME]`: number of questions of a reasoning-gym task; other keys are the task's options."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    questions: PositiveInt


class QuestionsConfig(DatasetKeys):
    """`[questions]`: where questions come from and how many each part takes."""

    source: Literal["datasets", "easy_vqa", "jsonl", "reasoning_gym", "store"]
    path: str | None = None
    tasks: dict[str, TaskConfig] = {}
    judge: str = "exact"
    unlabelled: bool = False
    preference_layout: str = "{question}\nCandidate 1: {first}\nCandidate 2: {second}"
    preferences_per_task: PositiveInt = 1000
    preferences_per_question: PositiveInt = 1
    train_limit: PositiveInt | None = None
    held_out_share: float = Field(0.1, gt=0.0, lt=1.0)
    gate_share: float = Field(0.05, ge=0.0, lt=1.0)
    too_long: Literal["refuse", "skip"] = "refuse"
    max_pixels: int = Field(50_000_000, gt=0, le=PILLOW_PIXELS)

    @property
    def on_hub(self) -> bool:
        """Whether `path` is a name on the hub; a path of this machine is absolute once it was read."""
        return self.source == SOURCE and self.path is not None and not self.path.startswith("/")

    @model_validator(mode="after")
    def _consistent(self) -> "QuestionsConfig":
        needed = {
            "datasets": "a file, a folder or a set's name on the hub (or dataset, the name of a published set)",
            "jsonl": "the file of questions",
            "store": "the directory of the run whose chains are compared",
        }
        if self.source in needed and self.path is None:
            raise ValueError(f"source = {self.source!r} needs path, {needed[self.source]}")
        if self.source not in needed and self.path is not None:
            raise ValueError(
                f"path is for sources 'datasets', 'jsonl' and 'store'; {self.source} brings its own questions"
            )
        try:
            find_judge(self.judge)
        except JudgeSpecError as error:
            raise ValueError(str(error)) from error
        for place in PREFERENCE_PLACES:
            if self.preference_layout.count(place) != 1:
                raise ValueError(f"preference_layout must contain {place} once")
        if (self.source == "reasoning_gym") != bool(self.tasks):
            raise ValueError("source = 'reasoning_gym' and tables [questions.tasks.NAME] go together")
        if unknown := sorted(self.tasks.keys() - set(TASKS)):
            raise ValueError(f"tasks: {unknown[0]!r} is unknown or cannot be judged; known: {', '.join(TASKS)}")
        if self.unlabelled and self.source != "jsonl":
            raise ValueError(f"unlabelled is for source = 'jsonl'; {self.source} brings its own answers")
        return self
