"""Configuration: a TOML recipe, checked whole before anything is loaded.

Unknown keys, wrong types and impossible combinations raise InputError with key and file.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from judges import JUDGES
from loop.errors import InputError

PROJECT = Path(__file__).resolve().parent.parent
CONFIGS = PROJECT / "configs"

SCHEDULE_KEYS = frozenset({"run.rounds"})
"""Keys that may differ when a run is continued; every other key is part of what the run is."""

MACHINE_KEYS = frozenset({"teacher", "engine", "retention"})
"""Tables that say how work is done here, not what is done; they may differ too."""

PATH_KEYS = (("policy", "model"), ("questions", "path"))
EMBEDDED = "embedded"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


DPO_LOSSES = {
    *("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair"),
    *("sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft"),
}
"""The losses of TRL 1.16's DPOTrainer."""


class RunConfig(_Table):
    """`[run]`: how long, and from which seed."""

    seed: int = 0
    rounds: int = Field(3, ge=0)


class PolicyConfig(_Table):
    """`[policy]`: the student. A model directory or hub id; directories are relative to the recipe."""

    model: str
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    trust_remote_code: bool = False


class QuestionsConfig(_Table):
    """`[questions]`: where questions come from and how many each part takes."""

    source: Literal["easy_vqa", "jsonl"]
    path: str | None = None
    judge: str = "exact"
    train_limit: PositiveInt | None = None
    held_out_share: float = Field(0.1, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _consistent(self) -> "QuestionsConfig":
        if self.source == "jsonl" and self.path is None:
            raise ValueError("source = 'jsonl' needs path, the file of questions")
        if self.source != "jsonl" and self.path is not None:
            raise ValueError(f"path is for source = 'jsonl'; {self.source} brings its own questions")
        if self.judge not in JUDGES:
            raise ValueError(f"judge {self.judge!r} is unknown; known: {', '.join(sorted(JUDGES))}")
        return self


class PromptsConfig(_Table):
    """`[prompts]`: one template a style; `{question}` is replaced by the question's text."""

    cot: str = "{question}\nReason first, then give a short answer after '### Answer:'."
    direct: str = "{question}\nGive a short answer."

    @model_validator(mode="after")
    def _has_question(self) -> "PromptsConfig":
        for style in ("cot", "direct"):
            if "{question}" not in getattr(self, style):
                raise ValueError(f"{style} must contain {{question}}")
        return self


class TeacherConfig(_Table):
    """`[teacher]`: an OpenAI-compatible endpoint; base_url = "embedded" is the one this project ships."""

    enabled: bool = True
    base_url: str = EMBEDDED
    model: str = "gpt-4o"
    temperature: float = Field(0.7, ge=0.0)
    max_tokens: PositiveInt = 300
    concurrency: PositiveInt = 16
    attempts: PositiveInt = 8
    timeout_s: PositiveFloat = 60.0
    longest_edge: PositiveInt = 1024


class TrainingConfig(_Table):
    """What `[cold_start]` and `[update]` share: the optimizer's settings."""

    learning_rate: PositiveFloat
    epochs: PositiveFloat = 1.0
    batch_size: PositiveInt = 32
    accumulation: PositiveInt = 1
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(0.03, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.0, ge=0.0)
    max_grad_norm: PositiveFloat = 1.0
    mixed_precision: Literal["no", "bf16"] = "no"
    gradient_checkpointing: bool = False
    frozen: list[str] = []


class ColdStartConfig(TrainingConfig):
    """`[cold_start]`: rationales to distil, and the mixture they are trained in (counts of items)."""

    learning_rate: PositiveFloat = 5e-6
    rationales: int = Field(1024, ge=0)
    direct_items: int = Field(1024, ge=0)
    format_items: int = Field(256, ge=0)


class SamplingConfig(_Table):
    """`[sampling]`: what each round samples on-policy."""

    questions: PositiveInt = 1000
    samples: PositiveInt = 8
    style: Literal["cot", "direct"] = "cot"
    temperature: PositiveFloat = 1.0
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    max_tokens: PositiveInt = 256


class FallbackConfig(_Table):
    """`[fallback]`: questions with no right sample go to the teacher, at most `questions` a round."""

    questions: int = Field(0, ge=0)


class PairsConfig(_Table):
    """`[pairs]`: which questions give pairs (pass rate within `band`), and how many each."""

    rule: Literal["random"] = "random"
    per_question: PositiveInt = 2
    band: list[float] = [0.0, 1.0]

    @model_validator(mode="after")
    def _band_in_order(self) -> "PairsConfig":
        if len(self.band) != 2 or not 0.0 <= self.band[0] < self.band[1] <= 1.0:
            raise ValueError("band must be [low, high] with 0 <= low < high <= 1")
        return self


class UpdateConfig(TrainingConfig):
    """`[update]`: the DPO update; `losses` are TRL's loss names with their weights."""

    learning_rate: PositiveFloat = 5e-7
    beta: PositiveFloat = 0.1
    losses: dict[str, float] = Field({"sigmoid": 1.0}, min_length=1)

    @model_validator(mode="after")
    def _losses_exist(self) -> "UpdateConfig":
        if unknown := sorted(self.losses.keys() - DPO_LOSSES):
            raise ValueError(f"losses: {unknown[0]!r} is unknown; known: {', '.join(sorted(DPO_LOSSES))}")
        return self


class EvaluationConfig(_Table):
    """`[evaluation]`: held-out questions (the first `limit` of the split), greedy."""

    split: str = "test"
    limit: PositiveInt | None = None
    max_tokens: PositiveInt = 256


class GateConfig(_Table):
    """`[gate]`: when a candidate is accepted; `level` is that of the paired test."""

    rule: Literal["improve", "not_worse", "always"] = "not_worse"
    level: float = Field(0.05, gt=0.0, lt=1.0)


class RetentionConfig(_Table):
    """`[retention]`: which policies' weights stay on disk besides serving policy, its parent and the best."""

    keep_every: PositiveInt = 10


class EngineConfig(_Table):
    """`[engine]`: vLLM's options for this machine."""

    max_model_len: PositiveInt | None = None
    max_num_seqs: PositiveInt = 128
    kv_cache_gib: PositiveFloat | None = None
    gpu_memory_utilization: float = Field(0.45, gt=0.0, le=1.0)
    tensor_parallel_size: PositiveInt = 1
    enforce_eager: bool = False
    probe_tolerance: PositiveFloat = 0.02


class Config(_Table):
    """A whole recipe."""

    run: RunConfig = RunConfig()
    policy: PolicyConfig
    questions: QuestionsConfig
    prompts: PromptsConfig = PromptsConfig()
    teacher: TeacherConfig = TeacherConfig()
    cold_start: ColdStartConfig = ColdStartConfig()
    sampling: SamplingConfig = SamplingConfig()
    fallback: FallbackConfig = FallbackConfig()
    pairs: PairsConfig = PairsConfig()
    update: UpdateConfig = UpdateConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    retention: RetentionConfig = RetentionConfig()
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _teacher_can_teach(self) -> "Config":
        if self.fallback.questions and not self.teacher.enabled:
            raise ValueError("fallback.questions > 0 needs teacher.enabled = true")
        if self.fallback.questions and self.sampling.style != "cot":
            raise ValueError("fallback.questions > 0 needs sampling.style = 'cot': the teacher writes chains")
        if self.teacher.enabled and self.teacher.base_url == EMBEDDED and self.questions.source != "easy_vqa":
            raise ValueError(
                "teacher.base_url = 'embedded' knows easy_vqa only; give an endpoint, or teacher.enabled = false"
            )
        return self


def load_config(name_or_file: str, overrides: list[str]) -> Config:
    """Read a recipe by name (in `configs/`) or path, and apply `a.b=value` overrides."""
    path = Path(name_or_file)
    if not path.suffix and not path.exists():
        path = CONFIGS / f"{name_or_file}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.toml")))
        raise InputError(f"--config {name_or_file}: no such recipe or file; recipes: {known}")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    _resolve_paths(tables, path.resolve().parent)
    for override in overrides:
        _apply(tables, override)
    return parse_config(tables, str(path))


def parse_config(tables: dict[str, Any], where: str) -> Config:
    """Validate tables; raises InputError with one line a fault."""
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            key = ".".join(str(part) for part in fault["loc"]) or "recipe"
            message = {
                "extra_forbidden": "unknown key; see docs/configuration.md",
                "missing": "is required",
            }.get(fault["type"], fault["msg"].removeprefix("Value error, "))
            lines.append(f"{where}: {key}: {message}")
        raise InputError("\n".join(lines)) from error


def _resolve_paths(tables: dict[str, Any], base: Path) -> None:
    """Make `policy.model` and `questions.path` absolute if they name something beside the recipe."""
    for table, key in PATH_KEYS:
        value = tables.get(table, {}).get(key) if isinstance(tables.get(table), dict) else None
        if isinstance(value, str) and (key == "path" or value.startswith(".")):
            tables[table][key] = str((base / value).resolve())


def _apply(tables: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise InputError(f"--set {override}: write it as table.key=value, for example run.rounds=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = tables
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override}: {part} is a value, not a table")
    named = isinstance(value, str) and (key == "questions.path" or value.startswith((".", "~")))
    if named and tuple(parts) in PATH_KEYS:
        value = str(Path(value).expanduser().resolve())
    table[parts[-1]] = value


def differing_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Keys of a stored and a new configuration that differ although they may not."""
    flat_old, flat_new = _flatten(old), _flatten(new)
    return [
        f"{key} ({flat_old.get(key)!r} in the run, {flat_new.get(key)!r} now)"
        for key in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(key) != flat_new.get(key)
        and key not in SCHEDULE_KEYS
        and key.partition(".")[0] not in MACHINE_KEYS
    ]


def _flatten(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
