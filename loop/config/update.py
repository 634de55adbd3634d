"""The tables of an update: pairs, the stages' trainings, and which stages a round trains."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from loop.config.learner import TrainingConfig
from loop.config.table import ConfigTable

DPO_LOSSES = {
    *("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair"),
    *("sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft"),
}
"""The losses of TRL 1.16's DPOTrainer."""

GRPO_REWARDS = {"answer", "format", "brevity"}
"""The rewards of `loop/training/rewards.py`."""


def _in_order(band: list[float]) -> list[float]:
    if len(band) != 2 or not 0.0 <= band[0] < band[1] <= 1.0:
        raise ValueError("band must be [low, high] with 0 <= low < high <= 1")
    return band


Band = Annotated[list[float], AfterValidator(_in_order)]
"""Pass rates (low, high), both included."""


class PairsConfig(ConfigTable):
    """`[pairs]`: the rule of pairs, their number per question, and the `band` of pass rates."""

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

    With per_question = 0 only the mixture is trained on, and the teacher's chains if `fallback.use` imitates them;
    without either the stage is left out.
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
    """`[grpo]`: GRPO on the round's samples. `groups` chooses the questions: none, those whose samples differ in
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
    """`[stages]`: the stages that train in each round.

    `rounds = ["rft", "grpo"]` trains odd rounds by SFT and even ones by GRPO; "rft+dpo" names two stages of one
    round. With an empty list every round trains each stage that has items. `questions` and `samples` have one number
    per entry of `rounds`, in place of those of `[sampling]`: SFT takes many questions, GRPO many samples of each.
    """

    rounds: list[str] = []
    questions: list[PositiveInt] = []
    samples: list[PositiveInt] = []

    @model_validator(mode="after")
    def _stages_exist(self) -> "StagesConfig":
        for turn in self.rounds:
            if unknown := [name for name in turn.split("+") if name not in STAGES]:
                raise ValueError(f"rounds: stage {unknown[0]!r} is unknown; known: {', '.join(STAGES)}")
        return self

    @model_validator(mode="after")
    def _numbers_are_in_turn(self) -> "StagesConfig":
        for name in ("questions", "samples"):
            if (count := len(getattr(self, name))) not in (0, len(self.rounds)):
                raise ValueError(f"{name} needs one number per entry of rounds ({len(self.rounds)}), not {count}")
        return self

    def of_round(self, number: int) -> tuple[str, ...] | None:
        """The names of the stages that a round trains; None for all. The list repeats."""
        if not self.rounds:
            return None
        return tuple(self.rounds[self.turn(number)].split("+"))

    def turn(self, number: int) -> int:
        """The place of a round in the lists, which repeat."""
        return (number - 1) % len(self.rounds)
