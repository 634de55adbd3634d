"""The proposal of `init`: a configuration for questions, model, teacher and machine, each key with its reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from loop.config.load import parse_config
from loop.config.schema import Config, PromptsConfig
from loop.planning.fit import fitting_change
from loop.planning.lengths import Questions, longest_of_questions
from loop.planning.machine import Machine
from loop.planning.model_shape import ModelShape
from loop.planning.plan import Plan, make_plan
from policies.encoding import Encoder

SMALL = 50_000_000
"""Parameters of a model that is trained at the rates measured on the shipped one."""

STEP = 64
"""engine.max_model_len is a multiple of it."""

DIRECT = {
    "choice": "{question}\nAnswer with the option's letter from the given choices directly.",
    "numeric": "{question}\nAnswer with a number.",
    "math": "{question}\nGive the answer only.",
}
COT = {"choice": "{question}\nReason first, then give the option's letter after '### Answer:'."}
"""Prompts by judge, where the default does not say what is wanted."""

ENOUGH = "enough to tell a point from chance"


class Setting(NamedTuple):
    """A key's value and the reason of the proposal; "" if it needs none."""

    value: Any
    why: str = ""


Tables = dict[str, dict[str, Setting]]


@dataclass(frozen=True)
class Proposal:
    """The tables, the resolved configuration, and its memory plan. `fits` is False if no key makes it fit."""

    tables: Tables
    config: Config
    plan: Plan
    fits: bool


def values(tables: Tables) -> dict[str, dict[str, Any]]:
    """The tables without their reasons."""
    return {table: {key: setting.value for key, setting in keys.items()} for table, keys in tables.items()}


def propose(
    given: Tables,
    encoder: Encoder,
    shape: ModelShape,
    questions: Questions,
    answers: Sequence[str],
    train_rows: int,
    machine: Machine,
    prompt: str | None = None,
) -> Proposal:
    """Complete the tables `policy`, `questions` and `teacher` (and `sampling.style`) that were agreed to.

    `answers` are the longest accepted ones; `prompt` is a published set's own, for direct answers.
    """
    config = parse_config(values(given), "the proposal")
    small, on_card = shape.count < SMALL, bool(machine.cards)
    tables: Tables = {table: dict(keys) for table, keys in given.items()}
    style = config.sampling.style
    tables["prompts"] = _prompts(config, prompt, small=small)
    tables["sampling"] |= _sampling(encoder, answers, train_rows, style, small=small, on_card=on_card)
    tables["cold_start"] = _cold_start(config, train_rows, small=small)
    tables["update"] = _update(small=small)
    length = tables["sampling"]["max_tokens"].value
    tables["evaluation"] = {
        "limit": Setting(2000 if small else 500, ENOUGH if small else "more would take long"),
        "max_tokens": Setting(length),
    }
    tables["gate"] = {"limit": Setting(2000 if small else 500)}
    tables["engine"] = _engine(on_card=on_card)
    if not small:
        for table in ("cold_start", "update"):
            tables[table] |= _large_batches(on_card=on_card)
    tables = {table: keys for table, keys in tables.items() if keys}
    config = parse_config(values(tables), "the proposal")
    longest = longest_of_questions(config, encoder, questions, shape.patch_values)
    tables["engine"] |= {"max_model_len": _room(longest.tokens, encoder.context_length)}
    if encoder.context_length is not None and longest.tokens > encoder.context_length:
        why = f"the longest question and its answer take {longest.tokens} tokens, the model {encoder.context_length}"
        tables["questions"]["too_long"] = Setting("skip", why)
    config = parse_config(values(tables), "the proposal")
    card = min(machine.cards, default=None)

    def make(variant: Config) -> Plan:
        return make_plan(variant, shape, longest, card)

    return _fitted(tables, config, make, machine)


def _fitted(tables: Tables, config: Config, make: Callable[[Config], Plan], machine: Machine) -> Proposal:
    """The proposal with the cheapest changes that make it fit into the machine."""
    change = fitting_change(config, make, machine)
    for key, value in (change or {}).items():
        table, name = key.split(".")
        tables.setdefault(table, {})[name] = Setting(value, "so that it fits into this machine's memory")
    config = parse_config(values(tables), "the proposal")
    return Proposal(tables, config, make(config), change is not None)


def _prompts(config: Config, prompt: str | None, *, small: bool) -> dict[str, Setting]:
    """The styles' templates, where the default does not say what the judge wants."""
    rule = (config.questions.choices_judge or config.questions.judge).partition("(")[0]
    direct, cot = prompt or DIRECT.get(rule), COT.get(rule)
    if small and prompt is None:  # the shipped model has learned to answer the default ones
        return {}
    found = {"cot": cot, "direct": direct}
    defaults = PromptsConfig()
    return {
        style: Setting(text, f"what judge {rule} wants" if prompt is None else "the prompt of the published set")
        for style, text in found.items()
        if text is not None and text != getattr(defaults, style)
    }


def _sampling(
    encoder: Encoder, answers: Sequence[str], train_rows: int, style: str, *, small: bool, on_card: bool
) -> dict[str, Setting]:
    longest = max((len(encoder.completion_ids(answer)) for answer in answers), default=1)
    if style == "direct":
        most, why = _rounded(2 * longest, 8), f"twice the longest accepted answer ({longest} tokens)"
    else:
        most = _rounded((64 if small else 256) + longest, 8)
        why = f"a short chain and the longest accepted answer ({longest} tokens)"
    questions = min(train_rows, 1000 if on_card or small else 200)
    return {
        "questions": Setting(questions, "a round's questions; more of them make longer and steadier rounds"),
        "samples": Setting(8, "chains of each"),
        "max_tokens": Setting(most, why),
    }


def _cold_start(config: Config, train_rows: int, *, small: bool) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    if config.teacher.enabled:
        count = min(train_rows, 128 if small else 1024)
        found["rationales"] = Setting(count, "what the teacher is asked to write; the dry run has the price")
    if small:
        return found | {
            "direct_items": Setting(min(train_rows, 256)),
            "format_items": Setting(min(train_rows, 32)),
            "learning_rate": Setting(1e-4, "measured on the shipped model"),
            "epochs": Setting(4),
        }
    items = min(train_rows, 1024) if config.teacher.enabled else 0
    why = "" if items else "an instructed model answers already: no cold start"
    return found | {"direct_items": Setting(items, why), "format_items": Setting(min(items, 256))}


def _update(*, small: bool) -> dict[str, Setting]:
    if small:
        return {
            "learning_rate": Setting(1e-5, "measured on the shipped model"),
            "losses": Setting({"sigmoid": 0.2, "sft": 1.0}, "DPO and the likelihood of the chosen side"),
        }
    return {"learning_rate": Setting(5e-7, "as published for models of 2 to 8 billion parameters")}


def _large_batches(*, on_card: bool) -> dict[str, Setting]:
    found = {"batch_size": Setting(2), "accumulation": Setting(16, "32 pairs a step")}
    if on_card:
        found |= {"mixed_precision": Setting("bf16"), "gradient_checkpointing": Setting(True)}
    return found


def _engine(*, on_card: bool) -> dict[str, Setting]:
    if on_card:
        return {
            "gpu_memory_utilization": Setting(0.35, "the learner shares the card"),
            "probe_tolerance": Setting(0.05, "bfloat16 kernels of two libraries"),
        }
    return {
        "kv_cache_gib": Setting(1.0, "of the host's memory, as there is no card"),
        "enforce_eager": Setting(True, "a start of seconds, not of minutes"),
    }


def _room(longest: int, own: int | None) -> Setting:
    most = _rounded(longest + longest // 4, STEP)
    most = most if own is None else min(most, own)
    return Setting(most, f"the longest prompt with its images and answer takes {longest} tokens; a quarter to spare")


def _rounded(number: int, step: int) -> int:
    return -(-number // step) * step
