"""Images for an endpoint: data URLs, no larger than configured."""

import base64
import io
from dataclasses import dataclass

from PIL import Image, ImageOps

SENDABLE_FORMATS = ("png", "jpeg", "webp", "gif")
JPEG_QUALITY = 90


@dataclass(frozen=True)
class ImageFile:
    """An image file's bytes, its format ("png", "jpeg") and its size in pixels."""

    content: bytes
    format: str
    width: int
    height: int


def needs_no_conversion(image: ImageFile, longest_edge: int) -> bool:
    """Whether the file's bytes can be sent unchanged: small enough, and of a format that servers read."""
    return max(image.width, image.height) <= longest_edge and image.format in SENDABLE_FORMATS


def data_url(image: ImageFile, longest_edge: int) -> str:
    """An image file as a data URL: unchanged bytes, unless they are too large or in a rare format.

    A shrunk JPEG stays a JPEG; everything else becomes PNG, without loss.
    """
    content, kind = image.content, image.format
    if not needs_no_conversion(image, longest_edge):
        with Image.open(io.BytesIO(content)) as decoded:
            upright = ImageOps.exif_transpose(decoded).convert("RGB")
        upright.thumbnail((longest_edge, longest_edge))
        kind = "jpeg" if kind == "jpeg" else "png"
        buffer = io.BytesIO()
        upright.save(buffer, format=kind.upper(), quality=JPEG_QUALITY)
        content = buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
