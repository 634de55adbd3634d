"""The table of the student: its model, and how it is talked to."""

from typing import Literal

from pydantic import Field, field_validator

from loop.config.table import ConfigTable
from policies.prompt import ChatSettings

RESERVED = {"tokenize", "add_generation_prompt", "continue_final_message", "return_dict", "return_tensors"}
"""Options of transformers' `apply_chat_template` that the loop sets itself."""


class PolicyConfig(ConfigTable):
    """`[policy]`: the student. A model directory or hub id; directories are relative to the recipe."""

    model: str
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    trust_remote_code: bool = False
    system_prompt: str | None = Field(None, min_length=1)
    chat_template_options: dict[str, bool | int | float | str] = {}

    @field_validator("chat_template_options")
    @classmethod
    def _are_the_template_s(cls, options: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
        if taken := sorted(RESERVED & options.keys()):
            raise ValueError(f"{taken[0]!r} is not an option of a template: the loop sets it")
        return options

    @property
    def chat(self) -> ChatSettings:
        """The system prompt and the options of the model's chat template."""
        return ChatSettings(self.system_prompt, tuple(sorted(self.chat_template_options.items())))
