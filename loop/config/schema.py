"""The configuration's tables: every key with its type, default and what it goes together with."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from judges import FLAGS, JudgeSpecError, find_judge
from judges.reasoning_gym import TASKS
from loop.config.learner import MOVES_THE_BASE, LearnerConfig, TrainingConfig
from loop.config.machine import ClusterConfig, EngineConfig, RetentionConfig, TrackingConfig
from loop.config.prompt_styles import PREFERENCE_PLACES, STYLES, Style
from loop.config.table import ConfigTable
from loop.config.teacher import EMBEDDED, EMBEDDED_TASKS, TeacherConfig

DPO_LOSSES = {
    *("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair"),
    *("sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft"),
}
"""The losses of TRL 1.16's DPOTrainer."""

GRPO_REWARDS = {"answer", "format", "brevity"}
"""The rewards of `loop/training/rewards.py`."""


PILLOW_PIXELS = 178_956_970
"""Pillow opens no larger image: twice its `MAX_IMAGE_PIXELS`."""


class RunConfig(ConfigTable):
    """`[run]`: how long, and from which seed."""

    seed: int = 0
    rounds: int = Field(3, ge=0)


class PolicyConfig(ConfigTable):
    """`[policy]`: the student. A model directory or hub id; directories are relative to the recipe."""

    model: str
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    trust_remote_code: bool = False


class TaskConfig(ConfigTable):
    """`[questions.tasks.NAME]`: how many questions of a reasoning-gym task; other keys are the task's own options."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    questions: PositiveInt


class QuestionsConfig(ConfigTable):
    """`[questions]`: where questions come from and how many each part takes."""

    source: Literal["easy_vqa", "jsonl", "reasoning_gym", "store"]
    path: str | None = None
    tasks: dict[str, TaskConfig] = {}
    judge: str = "exact"
    unlabelled: bool = False
    preference_layout: str = "{question}\nCandidate 1: {first}\nCandidate 2: {second}"
    preferences_per_task: PositiveInt = 1000
    preferences_per_question: PositiveInt = 1
    train_limit: PositiveInt | None = None
    held_out_share: float = Field(0.1, gt=0.0, lt=1.0)
    gate_share: float = Field(0.05, ge=0.0, lt=1.0)
    too_long: Literal["refuse", "skip"] = "refuse"
    max_pixels: int = Field(50_000_000, gt=0, le=PILLOW_PIXELS)

    @model_validator(mode="after")
    def _consistent(self) -> "QuestionsConfig":
        needed = {"jsonl": "the file of questions", "store": "the directory of the run whose chains are compared"}
        if self.source in needed and self.path is None:
            raise ValueError(f"source = {self.source!r} needs path, {needed[self.source]}")
        if self.source not in needed and self.path is not None:
            raise ValueError(f"path is for sources 'jsonl' and 'store'; {self.source} brings its own questions")
        try:
            find_judge(self.judge)
        except JudgeSpecError as error:
            raise ValueError(str(error)) from error
        for place in PREFERENCE_PLACES:
            if self.preference_layout.count(place) != 1:
                raise ValueError(f"preference_layout must contain {place} once")
        if (self.source == "reasoning_gym") != bool(self.tasks):
            raise ValueError("source = 'reasoning_gym' and tables [questions.tasks.NAME] go together")
        if unknown := sorted(self.tasks.keys() - set(TASKS)):
            raise ValueError(f"tasks: {unknown[0]!r} is unknown or cannot be judged; known: {', '.join(TASKS)}")
        if self.unlabelled and self.source != "jsonl":
            raise ValueError(f"unlabelled is for source = 'jsonl'; {self.source} brings its own answers")
        return self


class JudgingConfig(ConfigTable):
    """`[judging]`: which flags keep a sample off the chosen side, and where judge `llm` is asked."""

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
    """`[prompts]`: one template a style; `{question}` is replaced by the question's text."""

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
    """Kinds of questions (`task` of preferences) that it learns from; all with an empty list."""


class SamplingConfig(ConfigTable):
    """`[sampling]`: what each round samples on-policy."""

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
        """The temperature of a round; a schedule's last one stays."""
        if isinstance(self.temperature, list):
            return self.temperature[min(number, len(self.temperature)) - 1]
        return self.temperature


class FallbackConfig(ConfigTable):
    """`[fallback]`: questions with no right sample go to the teacher, at most `questions` a round."""

    questions: int = Field(0, ge=0)
    min_samples: PositiveInt = 4
    earlier_rounds: int = Field(0, ge=0)
    use: Literal["none", "pair", "sft", "both"] = "both"


def _in_order(band: list[float]) -> list[float]:
    if len(band) != 2 or not 0.0 <= band[0] < band[1] <= 1.0:
        raise ValueError("band must be [low, high] with 0 <= low < high <= 1")
    return band


Band = Annotated[list[float], AfterValidator(_in_order)]
"""Pass rates (low, high), both included."""


class PairsConfig(ConfigTable):
    """`[pairs]`: which questions give pairs (pass rate within `band`), how many each, and by which rule."""

    rule: Literal[
        "random", "all", "best_worst", "vote", "shortest_right", "contrast", "likeliest", "margin", "judged"
    ] = "random"
    judge_run: str | None = None
    """Rule `judged`: the directory of the finished run whose policy compares the samples."""
    per_question: int = Field(2, ge=0)
    band: Band = [0.0, 1.0]
    weighting: Literal["equal", "information", "advantage"] = "equal"
    balance: bool = False
    replay_rounds: int = Field(0, ge=0)
    max_words: PositiveInt | None = None

    @model_validator(mode="after")
    def _has_its_judge(self) -> "PairsConfig":
        if (self.rule == "judged") != (self.judge_run is not None):
            raise ValueError("rule = 'judged' and judge_run, the directory of a finished judge run, go together")
        if self.rule == "judged" and self.balance:
            raise ValueError("balance = true counts right and wrong answers; rule = 'judged' knows none")
        return self


class RftConfig(TrainingConfig):
    """`[rft]`: SFT on the round's right samples and a mixture beside them, before the DPO.

    With per_question = 0 the mixture alone is trained on, and what the teacher wrote where `fallback.use` imitates it;
    with neither the stage is left out.
    """

    learning_rate: PositiveFloat = 5e-6
    per_question: int = Field(0, ge=0)
    pick: Literal["random", "likeliest"] = "random"
    band: Band = [0.0, 1.0]
    rationales: int = Field(0, ge=0)
    direct_items: int = Field(0, ge=0)
    format_items: int = Field(0, ge=0)


class UpdateConfig(TrainingConfig):
    """`[update]`: the DPO update; `losses` are TRL's loss names with their weights."""

    learning_rate: PositiveFloat = 5e-7
    beta: PositiveFloat = 0.1
    losses: dict[str, float] = Field({"sigmoid": 1.0}, min_length=1)
    label_smoothing: float = Field(0.0, ge=0.0, lt=0.5)
    start: Literal["serving", "cold_start"] = "serving"
    reference: Literal["start", "cold_start", "ema"] = "start"
    ema_steps: PositiveInt = 64
    ema_mixup: float = Field(0.6, gt=0.0, le=1.0)

    @model_validator(mode="after")
    def _losses_fit(self) -> "UpdateConfig":
        if unknown := sorted(self.losses.keys() - DPO_LOSSES):
            raise ValueError(f"losses: {unknown[0]!r} is unknown; known: {', '.join(sorted(DPO_LOSSES))}")
        if "exo_pair" in self.losses and self.label_smoothing == 0.0:
            raise ValueError("losses: 'exo_pair' needs label_smoothing > 0")
        if self.lora_rank and self.reference == "ema":
            raise ValueError("reference = 'ema' and lora_rank > 0 do not go together")
        return self


class GrpoConfig(TrainingConfig):
    """`[grpo]`: GRPO on the round's samples; `groups` says of which questions: none, those whose samples differ in
    outcome, or also those that are all right (for `brevity`).
    """

    learning_rate: PositiveFloat = 1e-6
    groups: Literal["none", "mixed", "all_right"] = "none"
    loss: Literal["dapo", "grpo", "dr_grpo", "gspo", "cispo"] = "dapo"
    rewards: dict[str, float] = Field({"answer": 1.0}, min_length=1)
    scale_rewards: bool = True
    truncated: Literal["mask", "wrong"] = "mask"
    clip: float = Field(0.2, gt=0.0, lt=1.0)
    clip_high: PositiveFloat | None = None
    beta: float = Field(0.0, ge=0.0)
    reference: Literal["start", "cold_start"] = "start"

    @model_validator(mode="after")
    def _rewards_exist(self) -> "GrpoConfig":
        if unknown := sorted(self.rewards.keys() - GRPO_REWARDS):
            raise ValueError(f"rewards: {unknown[0]!r} is unknown; known: {', '.join(sorted(GRPO_REWARDS))}")
        return self


STAGES = ("rft", "dpo", "grpo")
"""The stages of a round's update, of `loop/training/stages.py`, in their order."""


class StagesConfig(ConfigTable):
    """`[stages]`: which stages train in which round.

    `rounds = ["rft", "grpo"]` has odd rounds train by SFT and even ones by GRPO; "rft+dpo" names two stages of one
    round. With an empty list every round trains each stage that has items.
    """

    rounds: list[str] = []

    @model_validator(mode="after")
    def _stages_exist(self) -> "StagesConfig":
        for turn in self.rounds:
            if unknown := [name for name in turn.split("+") if name not in STAGES]:
                raise ValueError(f"rounds: stage {unknown[0]!r} is unknown; known: {', '.join(STAGES)}")
        return self

    def of_round(self, number: int) -> tuple[str, ...] | None:
        """The names of the stages that a round trains, None for all; the list begins again at its end."""
        if not self.rounds:
            return None
        return tuple(self.rounds[(number - 1) % len(self.rounds)].split("+"))


class EvaluationConfig(ConfigTable):
    """`[evaluation]`: held-out questions (the first `limit` of the split), greedy.

    They are answered in the style that is trained, in those that the gate guards, and in `styles`.
    """

    split: str = "test"
    limit: PositiveInt | None = None
    max_tokens: PositiveInt = 256
    styles: list[Style] = []


class GateConfig(ConfigTable):
    """`[gate]`: when a candidate is accepted, judged on questions of its own; what a rejection leads to.

    `guard` names prompt styles beside the trained one that must not be lost. `sequential` asks `first_look` questions,
    then twice as many each time while the answers leave it open, at most `limit`. `shrink` has the shares of the way
    from the serving policy to a rejected candidate that are tried in its place, in order.
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
    """A whole configuration; `recipe` is the name of the recipe that it was laid over."""

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
        if self.fallback.questions and self.fallback.min_samples > self.sampling.samples * (
            1 + self.fallback.earlier_rounds
        ):
            raise ValueError(
                f"fallback.min_samples = {self.fallback.min_samples} is never reached with sampling.samples ="
                f" {self.sampling.samples} and fallback.earlier_rounds = {self.fallback.earlier_rounds}"
            )
        if self.teacher.enabled and self.teacher.base_url == EMBEDDED:
            if self.questions.source == "jsonl":
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
