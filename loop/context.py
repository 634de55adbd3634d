"""The context that every phase gets: one session of a run with its running parts."""

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
from ratchet_error import RatchetError
from store import Store
from store.questions import Question
from store.rounds import Round, get_policy

StartSampler = Callable[[str, Encoder, EngineSettings, int], Sampler]
"""(model, encoder, settings, seed) -> a running engine."""


class Stopped(RatchetError):
    """The user asked to stop; everything done so far is committed."""


@dataclass(frozen=True)
class BatchSizes:
    """Sizes of commits: a kill loses at most this much work."""

    commit_chains: int = 512
    commit_seconds: float = 5.0
    verdicts: int = 2000


@dataclass(frozen=True)
class Stage:
    """One training of an update: its items, algorithm and settings.

    `name` is stored with the policies that it makes.
    """

    name: str
    settings: Callable[[Config], TrainingConfig]
    """The stage's own table of the configuration."""
    items: Callable[["Context", Round], Sequence[Any]]
    """The stage's items of a round; without items the stage is skipped."""
    algorithm: Callable[["Context"], Algorithm]
    """The algorithm with its own settings, made when the stage begins."""
    references: Callable[["Context", Sequence[Any], int | None], Sequence[Any]] = lambda _, items, __: items
    """(context, items, start) -> items with the reference's log-probabilities, known before the update loads its model.

    `start` is the policy that the stage starts from; None after another stage.
    """


@dataclass(frozen=True)
class Stages:
    """The stages of an update in order; each starts from the result of the one before."""

    cold_start: tuple[Stage, ...]
    rounds: tuple[Stage, ...]


@dataclass(frozen=True)
class Probed:
    """A policy, its probe's questions, and the sampler's scores of the probe's chains."""

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
    """The client of judge `llm`, after its first use."""
    sampler: Sampler | None = None
    loaded_policy: int | None = None
    """The policy whose weights the sampler was proved to hold."""
    asleep: bool = False
    """Whether the sampler has left the card to the learner."""
    probed: Probed | None = None
    """The sampler's probe scores for the weights that it holds, if they are a policy's."""
    stopping: bool = field(default=False)

    def check_stop(self) -> None:
        """Raise Stopped if the user asked for it; called where everything is committed."""
        if self.stopping:
            raise Stopped

    def prompt(self, question: Question, style: str) -> Prompt:
        """The question in a style's template."""
        return Prompt(self.config.prompts.lay_out(style, question.text), question.images)

    def policy_directory(self, path: str) -> Path:
        """The directory of a policy's weights; paths of published ones are relative to the run directory."""
        return self.run_dir / path

    def load_policy(self, number: int) -> Any:
        """A policy's model, ready to train or score."""
        return self.learner.load(self.policy_directory(get_policy(self.store, number).path))
