"""`[teacher]`: the teacher's endpoint, rates and budgets."""

import re
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from judges import RULES, find_judge
from loop.config.table import ConfigTable

EMBEDDED = "embedded"
EMBEDDED_TASKS = (
    *("chain_sum", "leg_counting", "letter_counting", "number_filtering", "products"),
    *("spell_backward", "word_sequence_reversal"),
)
"""Tasks of reasoning-gym that the embedded teacher can solve; `loop/questions/sources/worked_steps.py` has a function
for each."""
NOTES = ("copy_from_document", "lower_case", "no_units", "option_letter")
"""Notes that `teacher.notes` may name; each is a file `note_*.txt` in `loop/teaching/prompts/`."""
DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


class PriceConfig(ConfigTable):
    """`[teacher.prices."MODEL"]`: US dollars per million tokens, and the tokens of an image (OpenAI's tiles)."""

    input: float = Field(ge=0.0)
    cached: float = Field(ge=0.0)
    output: float = Field(ge=0.0)
    image_base: int = Field(85, ge=0)
    image_tile: int = Field(170, ge=0)


PRICES = {
    "gpt-4o": PriceConfig(input=2.50, cached=1.25, output=10.00, image_base=85, image_tile=170),
    "gpt-4o-2024-05-13": PriceConfig(input=5.00, cached=5.00, output=15.00, image_base=85, image_tile=170),
    "gpt-4o-mini": PriceConfig(input=0.15, cached=0.075, output=0.60, image_base=2833, image_tile=5667),
}
"""OpenAI's list prices; a recipe's own table adds to them or replaces them model by model."""


class TeacherConfig(ConfigTable):
    """`[teacher]`: an OpenAI-compatible endpoint; base_url = "embedded" is the project's own."""

    enabled: bool = True
    base_url: str = EMBEDDED
    api_version: str | None = None
    api_key_env: str = Field("OPENAI_API_KEY", pattern="^([A-Z_][A-Z0-9_]*)?$")
    model: str = "gpt-4o"
    mode: Literal["live", "batch"] = "live"
    batch_poll_s: PositiveFloat = 60.0
    temperature: float = Field(0.7, ge=0.0)
    max_tokens: PositiveInt = 300
    longest_edge: PositiveInt = 1024
    notes: dict[str, list[str]] = {}
    concurrency: PositiveInt = 16
    requests_per_minute: PositiveFloat | None = None
    tokens_per_minute: PositiveFloat | None = None
    attempts: PositiveInt = 8
    backoff_s: PositiveFloat = 1.0
    timeout_s: PositiveFloat = 60.0
    budget_usd: float | None = Field(None, ge=0.0)
    max_requests: int | None = Field(None, ge=0)
    round_budget_usd: float | None = Field(None, ge=0.0)
    round_max_requests: int | None = Field(None, ge=0)
    confirm_usd: float = Field(5.0, ge=0.0)
    prices: dict[str, PriceConfig] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_prices(cls, values: Any) -> Any:
        given = values.get("prices", {}) if isinstance(values, dict) else None
        return {**values, "prices": {**PRICES, **given}} if isinstance(given, dict) else values

    @model_validator(mode="after")
    def _consistent(self) -> "TeacherConfig":
        if "@" in self.base_url or "key=" in self.base_url:
            raise ValueError("base_url must not hold a key or a password; export it in the variable of api_key_env")
        if self.mode == "batch" and self.base_url == EMBEDDED:
            raise ValueError("mode = 'batch' needs an endpoint with a Batch API; the embedded teacher has none")
        for judge, notes in self.notes.items():
            if judge not in RULES:
                raise ValueError(f"notes: judge {judge!r} is unknown; known: {', '.join(sorted(RULES))}")
            for note in notes:
                if note not in NOTES:
                    raise ValueError(f"notes.{judge}: {note!r} is unknown; known: {', '.join(NOTES)}")
        for name in ("budget_usd", "round_budget_usd"):
            if getattr(self, name) is not None and self.price is None:
                raise ValueError(
                    f'{name} needs the price of {self.model!r}: add a table [teacher.prices."{self.model}"]'
                )
        return self

    @property
    def price(self) -> PriceConfig | None:
        """The model's price; a dated version has its own or that of its name. None if it is unknown.

        The embedded teacher is free.
        """
        if self.base_url == EMBEDDED:
            return PriceConfig(input=0.0, cached=0.0, output=0.0)
        return self.prices.get(self.model) or self.prices.get(DATED.sub("", self.model))

    def notes_of(self, judge: str) -> tuple[str, ...]:
        """The notes for questions of this judge."""
        return tuple(self.notes.get(find_judge(judge).rule.name, ()))
