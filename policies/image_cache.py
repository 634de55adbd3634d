"""A cache of decoded images, limited by bytes, because sizes differ a thousandfold."""

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

CACHE_BYTES = 512 << 20
"""What decoded images may take: 128 of a megapixel, more than the requests of most engines in flight have."""

PIXEL_BYTES = 4
"""Pillow keeps an RGB pixel in four bytes."""


class ImageCache:
    """Calls `load` for an image by its name, and keeps the images that were used last.

    An image larger than the whole cache is loaded each time.
    """

    def __init__(self, load: "Callable[[str], Image]", limit: int = CACHE_BYTES) -> None:
        self._load, self._limit = load, limit
        self._images: OrderedDict[str, Image] = OrderedDict()
        self.size = 0
        """Bytes of the images that are kept; never above the limit."""

    def __call__(self, name: str) -> "Image":
        """The image, from the cache or loaded."""
        if name in self._images:
            self._images.move_to_end(name)
            return self._images[name]
        image = self._load(name)
        size = bytes_of(image)
        if size <= self._limit:
            while self.size + size > self._limit:
                self.size -= bytes_of(self._images.popitem(last=False)[1])
            self._images[name] = image
            self.size += size
        return image


def bytes_of(image: "Image") -> int:
    """Bytes of a decoded image in memory."""
    return image.width * image.height * PIXEL_BYTES
