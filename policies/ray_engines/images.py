"""Images for processes on other nodes: encoded, in Ray's object store, which sends each to a node once."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from policies.prompt import Prompt
from policies.ray_engines.actor import DecodeImage

IMAGES_BYTES = 1 << 30
"""Encoded images that are kept in Ray's object store at once."""


@dataclass(frozen=True)
class ImageSource:
    """Encoded images by name, and the function that decodes them in an engine's process (picklable)."""

    read: Callable[[str], bytes]
    decode: DecodeImage


class SentImages:
    """Images in Ray's object store, which sends each to a node once; the ones used last are kept."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self._kept: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._size = 0

    def references(self, prompts: Iterable[Prompt]) -> dict[str, Any]:
        """The references of the prompts' images by name."""
        return {name: self._reference(name) for prompt in prompts for name in prompt.images}

    def _reference(self, name: str) -> Any:
        import ray

        if name not in self._kept:
            content = self._source.read(name)
            self._kept[name] = (ray.put(content), len(content))
            self._size += len(content)
            while self._size > IMAGES_BYTES and len(self._kept) > 1:
                self._size -= self._kept.popitem(last=False)[1][1]
        self._kept.move_to_end(name)
        return self._kept[name][0]
