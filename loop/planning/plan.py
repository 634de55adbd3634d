"""The memory of a run, phase by phase, from its configuration and its model's shape."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from loop.config.learner import TrainingConfig
from loop.config.schema import Config
from loop.planning.activations import FLOAT32, Precision
from loop.planning.learner_memory import ADAMW_BYTES, SCORED_AT_ONCE, Batch, scoring, training
from loop.planning.lengths import Longest
from loop.planning.memory import GIB, MIB, Memory, memory
from loop.planning.model_shape import ModelShape
from loop.planning.sampler_memory import sampler_memory

CONTEXT = GIB // 2
"""Memory that CUDA itself takes of a card per process, with the kernels of PyTorch and vLLM."""

PROBE_CHAINS, PROBE_TOKENS = 8, 16
"""The learner scores a new policy's probe: four questions in both styles, each with a short answer."""

ENGINE_PROCESS = 450 * MIB
"""What an engine's own process takes beside what is planned for an engine in the controller's: Python, PyTorch, vLLM's
and transformers' modules, and Ray's part of it."""

RAY = 450 * MIB
"""What a local Ray's own processes take (2.60, proportional set size), its object store almost empty."""

KEPT_POLICIES = 5
"""Policies whose weights `retention` keeps on disk at least, with one being written."""


@dataclass(frozen=True)
class PhasePlan:
    """One phase: on the host and on each card, above what the process held before its first model.

    `name` is "sampling", "scoring", or the configuration's table of a training.
    """

    name: str
    host: Memory
    card: Memory


@dataclass(frozen=True)
class Plan:
    """Every phase's memory. `sampler_host` and `sampler_card` stay taken while others work.

    `engines` are on this machine; phase "sampling" and `sampler_host` are those of one.
    """

    phases: tuple[PhasePlan, ...]
    sampler_host: int
    sampler_card: int
    policy_bytes: int
    longest: Longest
    cards: int
    engines: int = 1

    def phase(self, name: str) -> PhasePlan:
        """A phase by name; raises KeyError if the run has none of it."""
        for each in self.phases:
            if each.name == name:
                return each
        raise KeyError(name)

    def host_peak(self, name: str) -> int:
        """Host memory of a phase with the part that the sampler keeps; a cold start precedes the sampler."""
        own = self.phase(name).host.peak
        if name == "sampling":
            return self._of_engines(own)
        return own if name == "cold_start" else own + self.sampler_kept

    @property
    def sampler_kept(self) -> int:
        """Host memory that all engines keep while others work."""
        return self._of_engines(self.sampler_host)

    def _of_engines(self, each: int) -> int:
        return each if self.engines == 1 else RAY + self.engines * (each + ENGINE_PROCESS)

    def card_peak(self, name: str) -> int:
        """A card's memory in a phase, with CUDA's own and the part that the sampler keeps."""
        own = self.phase(name).card.peak + CONTEXT
        return own if name in ("sampling", "cold_start") else own + self.sampler_card

    @property
    def disk(self) -> int:
        """Bytes of the policies that stay on the disk."""
        return KEPT_POLICIES * self.policy_bytes


def make_plan(config: Config, shape: ModelShape, longest: Longest, card_bytes: int | None) -> Plan:
    """The plan of a run on a card of this size in bytes, or on the CPU alone (None)."""
    device = "cpu" if card_bytes is None else "cuda"
    precision = Precision(*[2 if config.learner.dtype == "bfloat16" else FLOAT32] * 2)
    weights = shape.count * precision.weights
    sampler = sampler_memory(config, shape, longest, card_bytes)
    phases = [PhasePlan("sampling", sampler.host, sampler.card)]
    for name, table in trained_tables(config):
        phases.append(_on_device(name, weights, _training(config, name, table, shape, longest, device), device))
    chains = Batch(PROBE_CHAINS, longest.prompt + PROBE_TOKENS, PROBE_TOKENS, longest.patches)
    if config.grpo.groups != "none":
        chains = Batch(SCORED_AT_ONCE, longest.tokens, longest.answer, longest.patches)
    phases.append(_on_device("scoring", weights, scoring(shape, chains, precision=precision, device=device), device))
    return Plan(
        phases=tuple(phases),
        sampler_host=sampler.host_kept,
        sampler_card=0 if config.engine.sleep else sampler.card.peak,
        policy_bytes=weights,
        longest=longest,
        cards=0 if card_bytes is None else 1,
        engines=_engines_here(config),
    )


def _engines_here(config: Config) -> int:
    """Number of engines to plan for on this machine. "auto" counts as one, since it takes only as many as fit."""
    replicas = config.engine.replicas
    return 1 if replicas == "auto" or config.cluster.address is not None else replicas


def engines_that_fit(plan: Plan, host: int | None, most: int) -> int:
    """Number of engines that fit in `host` bytes of memory, from 1 to `most`; `most` if `host` is unknown."""
    fits = 1
    while fits < most and (host is None or max(_peaks(replace(plan, engines=fits + 1))) <= host):
        fits += 1
    return fits


def _peaks(plan: Plan) -> list[int]:
    return [plan.host_peak(phase.name) for phase in plan.phases]


def trainings(plan: Plan) -> list[str]:
    """The names of a plan's trainings."""
    return [phase.name for phase in plan.phases if phase.name not in ("sampling", "scoring")]


def trained_tables(config: Config) -> Iterator[tuple[str, TrainingConfig]]:
    """The configuration's tables of the trainings that a run may do, in their order."""
    cold, rft = config.cold_start, config.rft
    if (config.teacher.enabled and cold.rationales) or cold.direct_items or cold.format_items:
        yield "cold_start", cold
    imitates_teacher = config.fallback.questions and config.fallback.use in ("sft", "both")
    if rft.per_question or rft.rationales or rft.direct_items or rft.format_items or imitates_teacher:
        yield "rft", rft
    if config.pairs.per_question:
        yield "update", config.update
    if config.grpo.groups != "none":
        yield "grpo", config.grpo


def _training(
    config: Config, name: str, table: TrainingConfig, shape: ModelShape, longest: Longest, device: str
) -> Memory:
    sequences = table.batch_size * (2 if name == "update" else 1)
    shared = longest.prompt if name == "update" and shape.shares_prefixes else 0
    weights = 2 if config.learner.dtype == "bfloat16" else FLOAT32
    precision = Precision(weights, compute=2 if table.mixed_precision == "bf16" else weights)
    # GRPO's output layer also sees what is left of longer prompts than the batch's shortest.
    scored = longest.tokens if name == "grpo" else longest.answer
    needed = training(
        shape,
        Batch(sequences, longest.tokens, scored, longest.patches, shared),
        trained=shape.trainable(table.frozen, table.lora_rank),
        precision=precision,
        lora_rank=table.lora_rank,
        checkpointing=table.gradient_checkpointing,
        accumulates=table.accumulation > 1,
        reference=name == "update" and config.update.reference == "ema",
        optimizer_bytes=_optimizer_bytes(config, table),
        device=device,
    )
    if name not in ("update", "grpo"):
        return needed
    # Before the first step the reference, or what GRPO's ratio is of, is scored.
    chains = Batch(SCORED_AT_ONCE, longest.tokens, longest.answer, longest.patches, shared)
    first = scoring(shape, chains, precision=precision, device=device)
    return needed if needed.peak >= first.peak else memory(needed.parts, first.peak)


def _optimizer_bytes(config: Config, table: TrainingConfig) -> int:
    """Per trained parameter. AdamW's moments are as wide as the weights; adapters are float32 on any base."""
    name = config.learner.optimizer
    if "8bit" in name or "4bit" in name:
        return 2
    if name in ("sgd", "adafactor"):
        return 0  # no momentum; adafactor keeps a row and a column per matrix
    return ADAMW_BYTES // 2 if config.learner.dtype == "bfloat16" and not table.lora_rank else ADAMW_BYTES


def _on_device(name: str, weights: int, needed: Memory, device: str) -> PhasePlan:
    """The learner's memory where it computes. For a card the weights pass through the host, with their file's pages."""
    if device == "cpu":
        return PhasePlan(name, needed, Memory())
    return PhasePlan(name, memory({"loading weights": 2 * weights}), needed)
