"""Images of the store in a format that every browser shows."""

import base64
import io

from PIL import Image

from store import Store
from store.questions import image_bytes, load_image

SHOWN = {"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
THUMBNAIL = 192
SMALL_BYTES = 8192
QUALITY = 75


def browser_image(store: Store, digest: str) -> tuple[bytes, str]:
    """An image's bytes and media type; other formats are converted to PNG."""
    content, form = image_bytes(store, digest)
    if form in SHOWN:
        return content, SHOWN[form]
    return _encoded(load_image(store, digest), "PNG"), SHOWN["png"]


def thumbnail_url(store: Store, digest: str) -> str:
    """A small copy as a data URL; a small image is left unchanged."""
    content, form = image_bytes(store, digest)
    if form not in SHOWN or len(content) > SMALL_BYTES:
        image = load_image(store, digest)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        content, form = _encoded(image, "WEBP"), "webp"
    return f"data:{SHOWN[form]};base64,{base64.b64encode(content).decode()}"


def _encoded(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form, quality=QUALITY)
    return file.getvalue()
