"""The base class of the configuration's tables."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class ConfigTable(BaseModel):
    """Unknown keys and values of another type are errors; tables are immutable.

    No number is infinite, and none has more than 64 bits: the store holds no more, nor do the libraries take it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _in_64_bits(cls, values: Any) -> Any:
        for key, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(f"{key} is a number of more than 64 bits")
        return values
