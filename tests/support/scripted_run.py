"""The real controller with a scripted engine and learner: no arithmetic, so that a run takes a fraction of a second.

What stand in are vLLM and TRL alone; store, phases, controller, teacher client and teacher endpoint are the real ones.
"""

import hashlib
import json
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from loop.config.load import parse_config
from loop.config.schema import Config, PromptsConfig
from loop.context import BatchSizes
from loop.controller import run
from loop.disk_room import free_bytes
from loop.questions.preferences import JUDGE, Preference
from loop.reporting import RunReporter
from loop.session import OpenObserver, Parts
from loop.terminal.console import Console
from loop.trackers.feed import observe_with_trackers
from policies import PolicyError
from policies.encoding import Encoder, Prompt
from policies.learner.base import Algorithm, TrainingResult, TrainingSettings, TrainingStep
from policies.learner.callbacks import Progress, TrainingDiverged
from policies.sampler import Chain, Check, EngineStatus, Refuse, Request
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings
from policies.weights import publish, reading, weights_sha256
from store.new_questions import NewQuestion
from tests.support.command_line import BASE_MODEL, PROJECT
from tests.support.run_content import CONTENT

COLOURS = ("red", "blue", "green", "teal")
ROUNDS, TRAIN, TEST = 2, 12, 6


def scripted_config(folder: Path, **tables: dict[str, Any]) -> Config:
    """Base weights in the folder, and two rounds that go through every phase; commits are of a few rows each."""
    base = folder / "base"
    base.mkdir(parents=True, exist_ok=True)
    Weights("base").save_pretrained(base)
    recipe: dict[str, dict[str, Any]] = {
        "run": {"rounds": ROUNDS},
        "policy": {"model": str(base), "dtype": "float32"},
        "questions": {"source": "easy_vqa"},
        "teacher": {"model": "scripted", "concurrency": 2},
        "cold_start": {"rationales": 4, "direct_items": 2, "format_items": 2},
        "sampling": {"questions": 8, "samples": 6, "max_tokens": 32},
        "fallback": {"questions": 2},
        "update": {"learning_rate": 1e-5},
        "evaluation": {"styles": ["cot", "direct"]},
        "retention": {"keep_every": 100},
    }
    for table, values in tables.items():
        recipe.setdefault(table, {}).update(values)
    return parse_config(recipe, "scripted")


def questions(held_out: int) -> Iterator[NewQuestion]:
    """Questions that name their answer; one in four is too hard for any policy."""
    image = (PROJECT / "tests" / "fixtures" / "red.png").read_bytes()
    for number in range(TRAIN + held_out):
        colour = COLOURS[number % len(COLOURS)]
        kind = "hard" if number % 4 == 3 else "easy"
        split = "train" if number < TRAIN else "test"
        images = [image] if number % 2 else []
        yield NewQuestion(f"{kind} {number}: say {colour}", [colour], images, split, "scripted", "exact")


def preferences(held_out: int) -> Iterator[NewQuestion]:
    """The same questions with a right and a wrong chain, in both orders."""
    for each in questions(held_out):
        right, wrong = (f"I see {colour}. ### Answer: {colour}" for colour in (each.answers[0], "black"))
        row = Preference(each.text, (right, wrong), 0, list(each.images), ([], []))
        for order in row.in_both_orders(LAYOUT):
            yield NewQuestion(order.text, [order.answer], order.images, each.split, "scripted", JUDGE, unit=row.unit)


LAYOUT = "{question}\nCandidate 1: {first}\nCandidate 2: {second}"


def drawn(*key: object) -> random.Random:
    """A generator of its own for every key, the same in every process."""
    return random.Random(hashlib.sha256(json.dumps([str(part) for part in key]).encode()).digest())


@dataclass
class Weights:
    """A model that is nothing but a name for what it was made from."""

    content: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()

    def save_pretrained(self, folder: Path, **_: object) -> None:
        (folder / "model.safetensors").write_text(self.content)
        (folder / "config.json").write_text("{}")


@dataclass
class Script:
    """The parts of a scripted run that vary from test to test."""

    skills: Sequence[float] = (0.6,)
    """How often the weights are right, in the order in which they come; all later ones as the last."""
    direct_skills: Sequence[float] = ()
    """The same of answers without a chain, where it is another."""
    skill_of: Callable[[str], float] | None = None
    """How often weights of this content are right, in place of `skills`: the same in every process."""
    cut_off: float = 0.1
    """The share of chains that run into their length limit."""
    refuses: Callable[[str], bool] = lambda text: False
    """Whether the engine refuses a prompt of this text."""
    held_out: int = TEST
    """Questions of the test split."""
    read: Callable[[int], Iterator[NewQuestion]] = questions
    """How many held-out ones -> all questions: `questions`, or `preferences` for a judge."""
    free_bytes: Callable[[Path], int] = free_bytes
    """What is free on the disk."""
    sampler_error: float = 0.0
    """By how many nats the sampler's log-probabilities differ from the learner's."""
    reporter: RunReporter = field(default_factory=lambda: Console(quiet=True))
    while_training: Callable[[], None] = lambda: None
    """Called in every training, where a library would write to the terminal."""


class ScriptedEngine:
    """A `policies.sampler.Sampler` whose chains depend on served weights, prompt and seed, and name the weights."""

    def __init__(self, encoder: Encoder, script: Script) -> None:
        self.encoder, self.script, self.serves, self.content = encoder, script, "", ""
        self.known: list[str] = []

    def sample(self, requests: Iterable[Request], refused: Refuse | None = None) -> Iterator[Chain]:
        waiting = []
        for request in requests:
            if not self.script.refuses(request.prompt.text):
                waiting.append(request)
            elif refused is None:
                raise PolicyError(f"the sampler cannot take {request.key}")
            else:
                refused(request, "no reason")
        # Chains finish in an order that no two sessions share.
        random.Random(time.time_ns()).shuffle(waiting)
        return map(self._chain, waiting)

    def _chain(self, request: Request) -> Chain:
        question = request.prompt.text.splitlines()[0]
        rng = drawn(self.serves, request.prompt, request.seed)
        direct = request.prompt.text == PromptsConfig().direct.replace("{question}", question)
        skills = self.script.direct_skills if direct and self.script.direct_skills else self.script.skills
        skill = skills[min(self.known.index(self.serves), len(skills) - 1)]
        if self.script.skill_of is not None:
            skill = self.script.skill_of(self.content)
        right = not question.startswith("hard") and rng.random() < skill
        colour = question.rsplit(maxsplit=1)[-1]
        text = f"weights {self.serves[:8]} think {rng.randrange(1000)}\n"
        if "\nCandidate 1" in request.prompt.text:
            first_is_right = request.prompt.text.partition("\nCandidate 2")[0].endswith(colour)
            text += f"<answer>{1 if first_is_right == right else 2}</answer>"
        else:
            text += f"### Answer: {colour if right else 'black'}"
        ids = tuple(self.encoder.completion_ids(text))
        return Chain(
            request.key, text, ids, -rng.random(), "stop" if rng.random() < 1 - self.script.cut_off else "length"
        )

    def load_weights(self, directory: Path) -> str:
        with reading(directory):
            self.serves = weights_sha256(directory)
            self.content = (directory / "model.safetensors").read_text()
        if self.serves not in self.known:
            self.known.append(self.serves)
        return self.serves

    def prove(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], check: Check) -> list[float]:
        scores = [each + self.script.sampler_error for each in logprobs(self.serves, prompts, completions)]
        if fault := check(scores):
            raise PolicyError(fault)
        return scores

    def status(self) -> list[EngineStatus]:
        return []

    def close(self) -> None:
        pass


def logprobs(sha256: str, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> list[float]:
    return [-drawn(sha256, p, list(c)).random() for p, c in zip(prompts, completions, strict=True)]


class ScriptedLearner:
    """A `policies.learner.learner.Learner` of such weights."""

    def __init__(self, encoder: Encoder, script: Script) -> None:
        self.encoder, self.script = encoder, script

    def load(self, directory: Path | str) -> Weights:
        return Weights((Path(directory) / "model.safetensors").read_text())

    def train(
        self,
        algorithm: Algorithm,
        model: Weights,
        items: Sequence[Any],
        settings: TrainingSettings,
        work_dir: Path,
        progress: Progress,
    ) -> TrainingResult:
        """Weights that depend on the model they start from and on every item, in order.

        None at a rate beyond 1; at a rate that no float32 weight can follow they stay.
        """
        work_dir.mkdir(parents=True, exist_ok=True)
        self.script.while_training()
        if settings.learning_rate > 1:
            raise TrainingDiverged(f"training diverged: the loss is nan at step 1 of 1 ({settings.learning_rate:g})")
        progress(1, 1, 0.5)
        made = hashlib.sha256(repr([model.sha256, list(items), settings.seed]).encode()).hexdigest()
        curve = (TrainingStep(1, len(items) / 100, 1e-5, 0.25, 0.75),)
        trained = model if settings.learning_rate < 1e-20 else Weights(f"trained from {model.content[:7]}: {made}")
        return TrainingResult(trained, 1, len(items) / 100, 0.01, {}, curve)

    def with_adapter(self, model: Weights, directory: Path) -> Weights:
        raise NotImplementedError("scripted policies have no adapters")

    def token_logprobs(
        self,
        model: Weights,
        chains: Sequence[ScoredChain],
        progress: Callable[[int], object] = lambda _: None,
        mixed_precision: str = "no",
        sides: int = 1,
    ) -> list[list[float]]:
        """One figure per chain, as if it were a single token."""
        found = logprobs(model.sha256, [chain.prompt for chain in chains], [chain.completion for chain in chains])
        return [[each] for each in found]

    def interpolate(self, start: Weights, end: Weights, alpha: float) -> Weights:
        return Weights(f"{alpha} of the way from ({start.content}) to ({end.content})")

    def publish(self, model: Weights, directory: Path, adapters: Mapping[str, Path] | None = None) -> str:
        return publish(model, self.encoder.processor, directory, adapters)

    def free_memory(self) -> None:
        pass


def write_rationale(question: str, answer: str | None, images: Sequence[str]) -> str:
    """The teacher's words; every request that reaches it is a line of the ledger: it is paid for."""
    with open("ledger", "a", encoding="utf-8") as ledger:  # noqa: PTH123 (the run directory is the current one)
        ledger.write(f"{question} {answer}\n")
    verdict = f"<answer>{answer}</answer>" if "\nCandidate 1" in question else f"### Answer: {answer}"
    return f"I look. It is {answer}.\n{verdict}"


@lru_cache
def scripted_encoder() -> Encoder:
    """The shipped model's encoder, which publishes a file of its own and encodes every text once."""
    encoder = Encoder(str(BASE_MODEL), lambda _: None)  # type: ignore[arg-type, return-value]
    encoder.processor.save_pretrained = lambda folder: (folder / "processor.json").write_text("{}")
    encoder.completion_ids = lru_cache(maxsize=None)(encoder.completion_ids)  # type: ignore[method-assign]
    return encoder


def make_encoder(_: str, load_image: Any, **__: object) -> Encoder:
    """The one encoder, which reads this store's images."""
    encoder = scripted_encoder()
    encoder.load_image = load_image
    return encoder


def scripted_parts(script: Script, engines: list[ScriptedEngine], crash_point: Callable[[str], None]) -> Parts:
    """Scripted weights in the places of vLLM and TRL, and small batches; every engine started is added to the list."""

    def start_sampler(model: str, encoder: Encoder, settings: EngineSettings, seed: int) -> ScriptedEngine:
        engines.append(ScriptedEngine(encoder, script))
        return engines[-1]

    return Parts(
        sources={"easy_vqa": lambda *_: script.read(script.held_out)},
        rationales={"easy_vqa": write_rationale},
        make_encoder=make_encoder,
        make_learner=lambda encoder, **_: ScriptedLearner(encoder, script),
        start_sampler=start_sampler,
        batch_sizes=BatchSizes(commit_chains=6, verdicts=8),
        crash_point=crash_point,
        free_bytes=script.free_bytes,
    )


def run_scripted(
    run_dir: Path,
    config: Config,
    reached: Callable[[str], None] | None = None,
    script: Script | None = None,
    open_observer: OpenObserver = observe_with_trackers,
) -> None:
    """Run to the end in this process; `reached` is called with every crash point's name."""
    run_dir.mkdir(exist_ok=True)
    os.chdir(run_dir)
    phase = "before the first round"

    def crash_point(name: str) -> None:
        nonlocal phase
        if name.endswith("begins"):
            phase = name.removesuffix(" begins")
        if reached is not None:
            reached(name if name.endswith("begins") else f"{phase}: {name}")

    script, engines = script or Script(), list[ScriptedEngine]()
    parts = replace(scripted_parts(script, engines, crash_point), open_observer=open_observer)
    finished = run(config, run_dir, script.reporter, parts=parts)
    if finished and engines:
        connection = sqlite3.connect(run_dir / "store.db")
        serving = """SELECT sha256 FROM policy, round WHERE policy.number = CASE decision WHEN 'accepted'
                     THEN candidate_policy ELSE serving_policy END ORDER BY round.number DESC LIMIT 1"""
        assert connection.execute(serving).fetchone() == (engines[-1].serves,)
        connection.close()


def start_process(work: Callable[[], None]) -> int:
    """Do the work in a process of its own; returns its number."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return child


def in_process(work: Callable[[], None]) -> int:
    """The same, and wait for it; returns the signal that killed it, or 0."""
    _, status = os.waitpid(start_process(work), 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0, "a run that nobody killed failed"
    return 0


def content(run_dir: Path) -> dict[str, list[Any]]:
    """The store's content, the weights on disk and the log file."""
    connection = sqlite3.connect(run_dir / "store.db")
    found: dict[str, list[Any]] = {name: connection.execute(sql).fetchall() for name, sql in CONTENT.items()}
    connection.close()
    policies = run_dir / "policies"
    found["weights on disk"] = sorted(
        (path.name, weights_sha256(path)) for path in policies.iterdir() if not path.is_symlink()
    )
    found["current"] = [(policies / "current").readlink().name]
    lines = (run_dir / "rounds.jsonl").read_text().splitlines()
    found["rounds.jsonl"] = [json.loads(line)["round"] for line in lines]
    ledger = (run_dir / "ledger").read_text().splitlines()
    found["teacher asked for"] = sorted(set(ledger))
    return found


def requests_paid(run_dir: Path) -> int:
    """How many requests reached the teacher."""
    return len((run_dir / "ledger").read_text().splitlines())
