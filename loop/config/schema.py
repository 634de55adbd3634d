"""The configuration: its tables, defaults and allowed combinations of keys."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from judges import FLAGS
from loop.config.learner import MOVES_THE_BASE, LearnerConfig, TrainingConfig
from loop.config.machine import ClusterConfig, EngineConfig, RetentionConfig, TrackingConfig
from loop.config.policy import PolicyConfig
from loop.config.prompt_styles import STYLES, Style
from loop.config.questions import QuestionsConfig
from loop.config.table import ConfigTable
from loop.config.teacher import EMBEDDED, EMBEDDED_TASKS, TeacherConfig
from loop.config.update import GrpoConfig, PairsConfig, RftConfig, StagesConfig, UpdateConfig


class RunConfig(ConfigTable):
    """`[run]`: number of rounds, and seed."""

    seed: int = 0
    rounds: int = Field(3, ge=0)

    def library_seed(self, number: int = 0) -> int:
        """The seed of a library in a round: `seed` plus the round, in [0, 2**32) as NumPy wants it."""
        return (self.seed + number) % 2**32


class JudgingConfig(ConfigTable):
    """`[judging]`: flags that exclude a sample from the chosen side, and the endpoint of judge `llm`."""

    exclude_flags: list[str] = []
    base_url: str | None = None
    model: str | None = None
    max_tokens: PositiveInt = 1024
    concurrency: PositiveInt = 8
    timeout_s: PositiveFloat = 120.0

    @model_validator(mode="after")
    def _consistent(self) -> "JudgingConfig":
        if unknown := sorted(set(self.exclude_flags) - set(FLAGS)):
            raise ValueError(f"exclude_flags: {unknown[0]!r} is unknown; known: {', '.join(FLAGS)}")
        if (self.base_url is None) != (self.model is None):
            raise ValueError("base_url and model go together: where judge 'llm' is asked, and which model")
        if self.base_url is not None and ("@" in self.base_url or "key=" in self.base_url):
            raise ValueError("base_url must not hold a key or a password; export it as OPENAI_API_KEY")
        return self


class PromptsConfig(ConfigTable):
    """`[prompts]`: one template per style; `{question}` is replaced by the question's text."""

    cot: str = "{question}\nReason first, then give a short answer after '### Answer:'."
    direct: str = "{question}\nGive a short answer."

    def lay_out(self, style: str, question: str) -> str:
        """A question's text in a style's template."""
        template: str = getattr(self, style)
        return template.replace("{question}", question)

    @model_validator(mode="after")
    def _has_question(self) -> "PromptsConfig":
        for style in STYLES:
            if "{question}" not in getattr(self, style):
                raise ValueError(f"{style} must contain {{question}}")
        return self


class ColdStartConfig(TrainingConfig):
    """`[cold_start]`: rationales to distil, and the mixture they are trained in (counts of items)."""

    learning_rate: PositiveFloat = 5e-6
    rationales: int = Field(1024, ge=0)
    direct_items: int = Field(1024, ge=0)
    format_items: int = Field(256, ge=0)
    kinds: list[str] = []
    """Kinds of questions (`task` of preferences) to learn from; an empty list means all."""


class SamplingConfig(ConfigTable):
    """`[sampling]`: on-policy samples of each round."""

    questions: PositiveInt = 1000
    order: Literal["fresh", "informative", "difficult"] = "fresh"
    samples: PositiveInt = 8
    style: Style = "cot"
    temperature: PositiveFloat | list[PositiveFloat] = 1.0
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    max_tokens: PositiveInt = 256

    @model_validator(mode="after")
    def _schedule_has_steps(self) -> "SamplingConfig":
        if self.temperature == []:
            raise ValueError("temperature must be a number, or a list with one for each round")
        return self

    def temperature_of(self, number: int) -> float:
        """The temperature of a round; the last one of a schedule stays."""
        if isinstance(self.temperature, list):
            return self.temperature[min(number, len(self.temperature)) - 1]
        return self.temperature


class FallbackConfig(ConfigTable):
    """`[fallback]`: questions without a right sample go to the teacher, at most `questions` per round."""

    questions: int = Field(0, ge=0)
    min_samples: PositiveInt = 4
    earlier_rounds: int = Field(0, ge=0)
    use: Literal["none", "pair", "sft", "both"] = "both"


class EvaluationConfig(ConfigTable):
    """`[evaluation]`: held-out questions (the first `limit` of the split), greedy.

    They are answered in the trained style, in those that the gate guards, and in `styles`.
    """

    split: str = "test"
    limit: PositiveInt | None = None
    max_tokens: PositiveInt = 256
    styles: list[Style] = []


class GateConfig(ConfigTable):
    """`[gate]`: the rule by which a candidate is accepted, on separate questions, and the consequences of a rejection.

    `guard` names prompt styles besides the trained one that must not become worse. `sequential` asks `first_look`
    questions, then twice as many each time while the result is open, at most `limit`. `shrink` has the shares of the
    way from the serving policy to a rejected candidate that are tried in its place, in order.
    """

    rule: Literal["sequential", "improve", "not_worse", "always"] = "not_worse"
    guard: list[Style] = []
    guard_weight: float = Field(0.5, ge=0.0)
    level: float = Field(0.05, gt=0.0, lt=1.0)
    margin: float = Field(0.01, gt=0.0, lt=1.0)
    first_look: PositiveInt = 500
    limit: PositiveInt | None = None
    shrink: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = []
    learning_rate_factor: float = Field(1.0, gt=0.0, le=1.0)
    patience: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _can_decide(self) -> "GateConfig":
        if self.rule == "sequential" and self.level >= 0.5:
            raise ValueError("level must be below 0.5 with rule = 'sequential'")
        if len(set(self.shrink)) < len(self.shrink):
            raise ValueError("shrink must not name a share twice")
        return self


class Config(ConfigTable):
    """A whole configuration; `recipe` is the name of its recipe."""

    recipe: str | None = None
    run: RunConfig = RunConfig()
    policy: PolicyConfig
    questions: QuestionsConfig
    judging: JudgingConfig = JudgingConfig()
    prompts: PromptsConfig = PromptsConfig()
    teacher: TeacherConfig = TeacherConfig()
    cold_start: ColdStartConfig = ColdStartConfig()
    sampling: SamplingConfig = SamplingConfig()
    fallback: FallbackConfig = FallbackConfig()
    pairs: PairsConfig = PairsConfig()
    rft: RftConfig = RftConfig()
    update: UpdateConfig = UpdateConfig()
    grpo: GrpoConfig = GrpoConfig()
    stages: StagesConfig = StagesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    retention: RetentionConfig = RetentionConfig()
    engine: EngineConfig = EngineConfig()
    cluster: ClusterConfig = ClusterConfig()
    learner: LearnerConfig = LearnerConfig()
    tracking: TrackingConfig = TrackingConfig()

    def questions_of(self, number: int) -> int:
        """Questions that round `number` asks, by its turn in `[stages]` or by `[sampling]`."""
        return self.stages.questions[self.stages.turn(number)] if self.stages.questions else self.sampling.questions

    def samples_of(self, number: int) -> int:
        """Samples of each question in round `number`, by its turn in `[stages]` or by `[sampling]`."""
        return self.stages.samples[self.stages.turn(number)] if self.stages.samples else self.sampling.samples

    @model_validator(mode="after")
    def _adapters_fit_the_weights(self) -> "Config":
        for name in ("cold_start", "rft", "update", "grpo"):
            table = getattr(self, name)
            moves_weights = table.lora_rank and table.lora_init.startswith(MOVES_THE_BASE)
            if moves_weights and self.learner.dtype == "bfloat16":
                raise ValueError(
                    f"{name}.lora_init = {table.lora_init!r} changes the weights under the adapter, which bfloat16"
                    " cannot hold; take learner.dtype = 'float32', or lora_init = 'default'"
                )
        return self

    @model_validator(mode="after")
    def _adapters_can_go_on(self) -> "Config":
        if self.cold_start.lora_continue:
            raise ValueError("cold_start.lora_continue: the cold start trains once and has no adapter to go on with")
        for name in ("rft", "update", "grpo"):
            if not getattr(self, name).lora_continue:
                continue
            if self.learner.workers > 1:
                raise ValueError(f"{name}.lora_continue = true needs learner.workers = 1")
            if self.update.start == "cold_start":
                raise ValueError(
                    f"{name}.lora_continue = true and update.start = 'cold_start' do not go together: each round would"
                    " begin without an adapter"
                )
        return self

    @model_validator(mode="after")
    def _named_stages_can_train(self) -> "Config":
        named = {name for turn in self.stages.rounds for name in turn.split("+")}
        if "grpo" in named and self.grpo.groups == "none":
            raise ValueError("stages.rounds names 'grpo', and grpo.groups = 'none' leaves it out; take 'mixed'")
        if "dpo" in named and not self.pairs.per_question:
            raise ValueError("stages.rounds names 'dpo', and pairs.per_question = 0 makes no pairs")
        return self

    @model_validator(mode="after")
    def _teacher_can_teach(self) -> "Config":
        if self.fallback.questions and not self.teacher.enabled:
            raise ValueError("fallback.questions > 0 needs teacher.enabled = true")
        if self.fallback.questions and self.fallback.use == "pair" and not self.pairs.per_question:
            raise ValueError("fallback.use = 'pair' makes no pairs with pairs.per_question = 0; take 'sft'")
        if self.fallback.questions and self.sampling.style != "cot":
            raise ValueError("fallback.questions > 0 needs sampling.style = 'cot': the teacher writes chains")
        key = "stages.samples" if self.stages.samples else "sampling.samples"
        samples = max(self.stages.samples, default=self.sampling.samples)
        if self.fallback.questions and self.fallback.min_samples > samples * (1 + self.fallback.earlier_rounds):
            raise ValueError(
                f"fallback.min_samples = {self.fallback.min_samples} is never reached with {key} ="
                f" {samples} and fallback.earlier_rounds = {self.fallback.earlier_rounds}"
            )
        if self.teacher.enabled and self.teacher.base_url == EMBEDDED:
            if self.questions.source in ("datasets", "jsonl"):
                raise ValueError(
                    "teacher.base_url = 'embedded' knows easy_vqa and reasoning_gym only; give an endpoint, or"
                    " teacher.enabled = false"
                )
            if strange := sorted(self.questions.tasks.keys() - set(EMBEDDED_TASKS)):
                raise ValueError(
                    f"teacher.base_url = 'embedded' does not know task {strange[0]!r};"
                    f" known: {', '.join(EMBEDDED_TASKS)}"
                )
        return self
