"""What every table of the configuration keeps to."""

from pydantic import BaseModel, ConfigDict


class ConfigTable(BaseModel):
    """Unknown keys and values of another type are errors; a table that was read does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
