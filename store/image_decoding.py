"""Decoding images: once before they are stored, to refuse broken ones; later for training, sampling and views."""

import io
import warnings

from PIL import Image, UnidentifiedImageError

from store.errors import StoreError

UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def inspect_image(content: bytes, where: str) -> tuple[str, int, int]:
    """(format, width, height) of an image file that decodes completely; raises StoreError, naming the row."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return str(image.format).lower(), image.width, image.height
    except UNREADABLE as error:
        raise _unreadable(where, error) from error


def read_image_size(content: bytes, where: str) -> tuple[int, int]:
    """(width, height) that an image file names, before anything is decoded; raises StoreError, naming the row."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the caller checks its own limit
            with Image.open(io.BytesIO(content)) as image:
                return image.width, image.height
    except UNREADABLE as error:
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: Exception) -> StoreError:
    return StoreError(f"{where}: the image cannot be read ({error}); replace it or leave it out")


def decode_image(content: bytes) -> Image.Image:
    """The image in a file's bytes, as RGB."""
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")
