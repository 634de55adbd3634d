"""Decoding images: once when they are stored, to refuse what is no image; later for whoever looks at one."""

import io

from PIL import Image, UnidentifiedImageError

from store.database import StoreError


def inspect_image(content: bytes, where: str) -> tuple[str, int, int]:
    """(format, width, height) of an image file that decodes completely; raises StoreError, naming the row."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return str(image.format).lower(), image.width, image.height
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise StoreError(f"{where}: the image cannot be read ({error}); replace it or leave it out") from error


def decode_image(content: bytes) -> Image.Image:
    """The image in a file's bytes, as RGB."""
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB")
