"""A run with real weights that stands before the update of round 2."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loop.config.load import parse_config
from loop.config.run_identity import record_run
from loop.context import Context, Stages
from loop.session import Parts, open_session
from loop.terminal.console import Console
from loop.training.stages import STAGES
from policies.learner.learner import LocalLearner
from store import Store, open_store
from store.new_questions import NewQuestion, add_questions
from store.rounds import Policy, add_policy, latest_round, record_decision, start_round

SHA = "0" * 64


class Said(Console):
    """Keeps the lines that it gets."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Counting(LocalLearner):
    """A learner that knows how many of the models it loaded are still in memory, and how many were while it trained."""

    loaded: list[Any]
    while_training: int

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.loaded, self.while_training = [], 0

    def load(self, directory: Path | str) -> Any:
        model = super().load(directory)
        self.loaded.append(weakref.ref(model))
        return model

    def in_memory(self) -> int:
        gc.collect()
        return sum(model() is not None for model in self.loaded)

    def train(self, *arguments: Any) -> Any:
        self.while_training = self.in_memory()
        return super().train(*arguments)


@contextmanager
def session(
    model: Path,
    run_dir: Path,
    stages: Stages = STAGES,
    make_learner: Callable[..., LocalLearner] = Counting,
    **tables: Any,
) -> Iterator[Context]:
    """Its policy 1 is the cold start's, policy 2 is served; both have the model's weights. A second one goes on."""
    config = parse_config(
        {
            "policy": {"model": str(model), "dtype": "float32"},
            "questions": {"source": "jsonl", "path": "unused.jsonl"},
            "teacher": {"enabled": False},
            **tables,
        },
        "here",
    )
    store = open_store(run_dir, create=True)
    record_run(store, config)
    if latest_round(store) is None:
        add_questions(store, [NewQuestion("Which colour?", ["red"], [], "test", "test", "exact")])
    parts = Parts(stages=stages, make_learner=make_learner)
    try:
        with open_session(store, config, run_dir, Said(), parts) as (ctx, _):
            if latest_round(store) is None:
                _start_rounds(store, model)
            yield ctx
    finally:
        store.close()


def _start_rounds(store: Store, model: Path) -> None:
    start_round(store, 0, "gate", 0, [])
    with store.transaction():
        add_policy(store, Policy(1, 0, "sft", SHA, str(model), {}))
        store.connection.execute("UPDATE round SET candidate_policy = 1 WHERE number = 0")
    record_decision(store, 0, "accepted", "", best=1)
    with store.transaction():
        add_policy(store, Policy(2, 1, "dpo", SHA, str(model), {}))
    start_round(store, 2, "update", 2, [])
