"""The cost of a request to the teacher: pure arithmetic, no I/O.

Prices are US dollars per million tokens. Images are priced as OpenAI's tiles: the image is scaled
down to fit 2048x2048, then its shorter side to 768; each started square of 512 pixels costs
`image_tile` tokens, every image `image_base` more (OpenAI's vision guide; gpt-4o: 85 and 170).
"""

import math
from dataclasses import dataclass

MILLION = 1_000_000
LARGEST_SIDE = 2048
SHORTER_SIDE = 768
TILE = 512
BYTES_PER_TOKEN = 4
"""UTF-8 bytes per token, roughly: about 4 letters in English, 1 to 2 characters in Chinese."""

BATCH_SHARE = 0.5
"""The Batch API's price as a share of the ordinary price."""


@dataclass(frozen=True)
class Price:
    """One model's prices: `input`, `cached` input and `output` in USD per million tokens; tokens of an image."""

    input: float
    cached: float
    output: float
    image_base: int = 85
    image_tile: int = 170


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer; `cached` are the tokens of `prompt` that were read from the provider's cache."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


def cost_usd(price: Price, usage: Usage, *, batch: bool = False) -> float:
    """US dollars for the tokens; half of it through the Batch API."""
    cached = min(usage.cached, usage.prompt)
    full = (usage.prompt - cached) * price.input + cached * price.cached + usage.completion * price.output
    return full / MILLION * (BATCH_SHARE if batch else 1.0)


def text_tokens(text: str) -> int:
    """An estimate of a text's tokens; the API's own figures are booked."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN)


def scaled(width: int, height: int, longest_edge: float) -> tuple[float, float]:
    """The size after shrinking the longer side to `longest_edge`; smaller images stay as they are."""
    factor = min(1.0, longest_edge / max(width, height))
    return width * factor, height * factor


def image_tokens(price: Price, width: float, height: float) -> int:
    """An estimate of the tokens of an image of this size in pixels."""
    fit = min(1.0, LARGEST_SIDE / max(width, height))
    width, height = width * fit, height * fit
    shrink = min(1.0, SHORTER_SIDE / min(width, height))
    tiles = math.ceil(width * shrink / TILE) * math.ceil(height * shrink / TILE)
    return price.image_base + tiles * price.image_tile
