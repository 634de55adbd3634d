"""A judge run: a finished run on preference questions, whose best policy judges the candidates of other runs."""

import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.config.load import parse_config
from loop.config.policy import PolicyConfig
from loop.config.prompt_styles import PREFERENCE_PLACES
from loop.config.schema import Config
from loop.errors import InputError
from loop.questions.preferences import JUDGE, fill
from loop.questions.sources.run_store import SOURCE, on_one_line
from policies import PolicyError
from policies.encoding import Prompt
from policies.packaged_model import model_directory
from policies.weights import weights_sha256
from store import Store, StoreError, open_store
from store.gate import best_policy
from store.questions import Question
from store.rounds import get_policy, latest_round
from store.sessions import stored_configuration

SAME_FILES = ("tokenizer.json", "preprocessor_config.json", "processor_config.json", "chat_template.jinja")
"""Files that turn a prompt into a model's input, beside the model itself."""
FREE_KEYS = {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache"}
"""Keys of a model's configuration in which two policies of one architecture may differ."""


@dataclass(frozen=True)
class JudgeRun:
    """The judge: its weights, and the prompts of its own run. The weights' `sha256` is its name in a store."""

    run_dir: Path
    policy: int
    directory: Path
    sha256: str
    config: Config

    @property
    def style(self) -> str:
        """The style that it was trained in: its verdict needs a tag in "cot", and may stand alone in "direct"."""
        return self.config.sampling.style

    def prompt(self, question: Question, first: str, second: str) -> Prompt:
        """A question of any run with two of its chains, laid out as in the judge's own run."""
        texts = (question.text, first, second)
        if self.config.questions.source == SOURCE:  # whose candidates are one line each
            texts = (question.text, on_one_line(first), on_one_line(second))
        laid_out = fill(self.config.questions.preference_layout, dict(zip(PREFERENCE_PLACES, texts, strict=True)))
        template: str = getattr(self.config.prompts, self.style)
        return Prompt(template.replace("{question}", laid_out), question.images)


def open_judge_run(run_dir: Path) -> JudgeRun:
    """The best policy of a finished judge run, its weights checked against the recorded sha256.

    Raises InputError if the run judges no preferences, is not finished, or if its weights are missing or altered.
    """
    try:
        with closing(open_store(run_dir, read_only=True)) as store:
            config = _finished(store, run_dir)
            policy = get_policy(store, best_policy(store))
    except StoreError as error:
        raise InputError(f"judge run: {error}") from error
    directory = run_dir / policy.path
    try:
        found = weights_sha256(directory)
    except (OSError, PolicyError) as error:
        raise InputError(
            f"judge run {run_dir}: the weights of policy {policy.number} cannot be read ({error})"
        ) from error
    if found != policy.sha256:
        raise InputError(
            f"judge run {run_dir}: {directory} holds weights with sha256 {found[:12]}…, its store recorded"
            f" {policy.sha256[:12]}…; they were altered, restore them"
        )
    return JudgeRun(run_dir, policy.number, directory, policy.sha256, config)


def _finished(store: Store, run_dir: Path) -> Config:
    stored, last = stored_configuration(store), latest_round(store)
    if stored is None or last is None:
        raise InputError(f"judge run {run_dir} has not been started; start it with 'run'")
    if store.row("SELECT 1 FROM question WHERE judge = ? LIMIT 1", JUDGE) is None:
        raise InputError(f"judge run {run_dir} has no preference questions, so its policy is no judge of candidates")
    config = parse_config(stored, str(run_dir))
    if last.phase != "done" or last.number < config.run.rounds:
        raise InputError(f"judge run {run_dir} is not finished (round {last.number}); run it to its end first")
    return config


def require_same_model(judge: JudgeRun, policy: PolicyConfig) -> None:
    """Raise InputError unless a run's engine can hold the judge's weights and gives it the same input."""
    for key in ("system_prompt", "chat_template_options"):
        if getattr(policy, key) != getattr(judge.config.policy, key):
            raise InputError(
                f"judge run {judge.run_dir} and this run differ in policy.{key}; the judge cannot read its prompts"
            )
    own = Path(model_directory(policy.model))
    if _architecture(own) != _architecture(judge.directory):
        raise InputError(
            f"judge run {judge.run_dir} has another model than this run; both must begin from one model: the judge is"
            " swapped into this run's engine"
        )
    for name in SAME_FILES:
        if _digest(own / name) != _digest(judge.directory / name):
            raise InputError(
                f"judge run {judge.run_dir} and this run differ in {name}; the judge cannot read its prompts"
            )


def _architecture(directory: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((directory / "config.json").read_bytes())
    return _without_free_keys(content)


def _without_free_keys(content: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_free_keys(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if key not in FREE_KEYS
    }


def _digest(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else None


def with_room_for(config: Config, judge: JudgeRun) -> Config:
    """The configuration of a session that also asks the judge: its engine takes the longer of both runs' prompts."""
    own, needed = config.engine.max_model_len, judge.config.engine.max_model_len
    longest = None if own is None or needed is None else max(own, needed)
    return config.model_copy(update={"engine": config.engine.model_copy(update={"max_model_len": longest})})
