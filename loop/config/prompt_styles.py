"""The prompt styles, apart from the schema, so that views need not load pydantic."""

from typing import Literal, get_args

Style = Literal["cot", "direct"]
"""`cot` reasons before it answers, `direct` answers at once."""

STYLES: tuple[str, ...] = get_args(Style)

PREFERENCE_PLACES = ("{question}", "{first}", "{second}")
"""Placeholders that a layout of two candidates must contain once each."""
