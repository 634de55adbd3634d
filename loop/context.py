"""Context: one session of a run with its running parts, handed to every phase."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop.config.learner import TrainingConfig
from loop.config.schema import Config
from loop.reporting import Reporter
from policies.encoding import Encoder, Prompt
from policies.judge_endpoint import JudgeEndpoint
from policies.learner.base import Algorithm
from policies.learner.learner import Learner
from policies.sampler import Sampler
from policies.teacher.client import Teacher
from policies.vllm_engine import EngineSettings
from store import Store
from store.questions import Question
from store.rounds import Round, get_policy

StartSampler = Callable[[str, Encoder, EngineSettings, int], Sampler]
"""(model, encoder, settings, seed) -> a running engine."""


class Stopped(Exception):
    """The user asked to stop; everything done so far is committed."""


@dataclass(frozen=True)
class BatchSizes:
    """How much work one commit holds: a kill costs at most this much."""

    commit_chains: int = 512
    commit_seconds: float = 5.0
    verdicts: int = 2000


@dataclass(frozen=True)
class Stage:
    """One training of an update: what it learns from, how, and with which settings.

    `name` is stored with the policies that it makes.
    """

    name: str
    settings: Callable[[Config], TrainingConfig]
    """The stage's own table of the configuration."""
    items: Callable[["Context", Round], Sequence[Any]]
    """What a round has for it; the stage is left out where that is nothing."""
    algorithm: Callable[["Context"], Algorithm]
    """The algorithm with its own settings, made when the stage begins."""
    references: Callable[["Context", Sequence[Any], int | None], Sequence[Any]] = lambda _, items, __: items
    """(context, items, start) -> items with what is known of another policy before the update's own is loaded.

    `start` is the policy that the stage starts from, None after another stage.
    """


@dataclass(frozen=True)
class Stages:
    """The stages of an update, in order, each from where the one before it ended."""

    cold_start: tuple[Stage, ...]
    rounds: tuple[Stage, ...]


@dataclass(frozen=True)
class Probed:
    """A policy, the questions of its probe, and the sampler's scores of their chains."""

    policy: int
    questions: Sequence[int]
    scores: Sequence[float]


@dataclass
class Context:
    """One session of a run: the open store and the running parts."""

    run_dir: Path
    config: Config
    store: Store
    encoder: Encoder
    reporter: Reporter
    session: int
    learner: Learner
    start_sampler: StartSampler
    stages: Stages
    teacher: Teacher | None = None
    batch_sizes: BatchSizes = field(default_factory=BatchSizes)
    chat: JudgeEndpoint | None = None
    """The client of judge `llm`, once it was asked."""
    sampler: Sampler | None = None
    loaded_policy: int | None = None
    """The policy whose weights the sampler is proved to hold."""
    asleep: bool = False
    """Whether the sampler has left the card to the learner."""
    probed: Probed | None = None
    """What the sampler said of the weights that it holds, where they are a policy's."""
    stopping: bool = field(default=False)

    def check_stop(self) -> None:
        """Called where everything is committed; raises Stopped if the user asked for it."""
        if self.stopping:
            raise Stopped

    def prompt(self, question: Question, style: str) -> Prompt:
        """The question in a style's template."""
        return Prompt(self.config.prompts.lay_out(style, question.text), question.images)

    def policy_directory(self, path: str) -> Path:
        """Where a policy's weights lie; published ones are relative to the run directory."""
        return self.run_dir / path

    def load_policy(self, number: int) -> Any:
        """A policy's model, ready to train or score."""
        return self.learner.load(self.policy_directory(get_policy(self.store, number).path))
