"""A run with real Ray, real learner processes and engines without a model, whose processes a test kills."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.config.load import parse_config
from loop.context import BatchSizes
from loop.controller import run
from loop.session import Parts
from loop.terminal.console import Console
from policies.encoding import Encoder
from policies.learner.learner import LocalLearner
from policies.ray_engines.cluster import Resources
from policies.ray_engines.engines import RayEngines
from policies.ray_engines.images import ImageSource
from policies.ray_engines.roster import ClusterSettings
from policies.sampler import Sampler
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings
from policies.weights import weights_sha256
from store.new_questions import NewQuestion
from tests.support.answering_engine import StartAnswering, score
from tests.support.scripted_run import COLOURS, write_rationale
from tests.support.simulated_engine import as_it_is

ENGINES, WORKERS = 3, 2
TRAIN, TEST = 60, 20
TABLE = {"batch_size": 8, "learning_rate": 1e-4}


def questions(*_: object) -> Iterator[NewQuestion]:
    """Questions that name their answer."""
    for number in range(TRAIN + TEST):
        split = "train" if number < TRAIN else "test"
        colour = COLOURS[number % len(COLOURS)]
        yield NewQuestion(f"easy {number}: say {colour}", [colour], [], split, "scripted", "exact")


@dataclass(frozen=True)
class Saved:
    """Weights that only their hash is asked of."""

    directory: Path


class ScoringByHash(LocalLearner):
    """Scores are those of `answering_engine`; what is trained is real, in the processes of the learner."""

    def load(self, directory: Path | str) -> Saved:
        return Saved(Path(directory))

    def token_logprobs(
        self,
        model: Any,
        chains: Sequence[ScoredChain],
        progress: Callable[[int], object] = lambda _: None,
        mixed_precision: str = "no",
        sides: int = 1,
    ) -> list[list[float]]:
        """One figure a chain, as if it were a single token."""
        sha256 = weights_sha256(model.directory)
        return [[score(sha256, chain.prompt, chain.completion)] for chain in chains]


def run_cluster(model: str, run_dir: str, rounds: int, seconds: float) -> None:
    """Run to the end, or go on with what is there; `seconds` are those of a chain."""
    Path(run_dir).mkdir(exist_ok=True)
    os.chdir(run_dir)
    recipe: dict[str, dict[str, Any]] = {
        "run": {"rounds": rounds},
        "policy": {"model": model, "dtype": "float32"},
        "questions": {"source": "easy_vqa"},
        "teacher": {"model": "scripted", "concurrency": 2},
        "cold_start": {**TABLE, "rationales": 24, "direct_items": 8, "format_items": 8, "epochs": 4},
        "sampling": {"questions": 40, "samples": 6, "max_tokens": 32},
        "pairs": {"per_question": 2},
        "update": {**TABLE, "epochs": 4, "losses": {"sigmoid": 1.0, "sft": 0.2}},
        "evaluation": {"styles": ["cot"], "max_tokens": 32},
        "gate": {"rule": "always"},
        "learner": {"workers": WORKERS, "checkpoint_minutes": 1e-9},
        "retention": {"keep_every": 100},
    }
    environment = {"OMP_NUM_THREADS": "1"}

    def start_sampler(model: str, encoder: Encoder, settings: EngineSettings, seed: int) -> Sampler:
        each = ClusterSettings(ENGINES, Resources(), 16, environment=environment)
        return RayEngines(Path(model), StartAnswering(seconds), ImageSource(no_image, as_it_is), each, print)

    parts = Parts(
        sources={"easy_vqa": questions},
        rationales={"easy_vqa": write_rationale},
        make_learner=ScoringByHash,
        start_sampler=start_sampler,
        batch_sizes=BatchSizes(commit_chains=12, commit_seconds=1.0, verdicts=24),
    )
    run(parse_config(recipe, "cluster"), Path(run_dir), Console(quiet=True), parts=parts)


def no_image(name: str) -> bytes:
    """No question has one."""
    raise AssertionError(f"image {name} is asked for")
