"""The prompt styles. Apart from the schema, so that views need not load pydantic for two names."""

from typing import Literal, get_args

Style = Literal["cot", "direct"]
"""`cot` reasons before it answers, `direct` answers at once."""

STYLES: tuple[str, ...] = get_args(Style)

PREFERENCE_PLACES = ("{question}", "{first}", "{second}")
"""What a layout of two candidates must contain, each once."""
