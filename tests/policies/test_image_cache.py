"""The cache of decoded images never holds more bytes than its limit, whatever the images are."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from policies.encoding import Encoder
from policies.image_cache import CACHE_BYTES, ImageCache, bytes_of
from tests.support.command_line import BASE_MODEL

SIZES = [(1, 1), (10, 10), (30, 20), (50, 50), (100, 60), (200, 100)]
LIMIT = 4 * 50 * 50 + 4 * 30 * 20


@given(st.lists(st.integers(0, len(SIZES) - 1), max_size=60))
def test_whatever_is_asked_for_the_cache_stays_within_its_bytes(names: Sequence[int]) -> None:
    cache = ImageCache(lambda name: Image.new("RGB", SIZES[int(name)]), LIMIT)
    for name in names:
        assert cache(str(name)).size == SIZES[name]
        assert cache.size == sum(bytes_of(each) for each in cache._images.values()) <= LIMIT


def test_the_image_cache_drops_the_least_recently_used() -> None:
    loaded: list[str] = []

    def load(name: str) -> Image.Image:
        loaded.append(name)
        return Image.new("RGB", (10, 10))

    cache = ImageCache(load, 2 * 400)
    for name in ("a", "b", "a", "c", "a", "b"):
        cache(name)
    assert loaded == ["a", "b", "c", "b"]


def test_an_image_larger_than_the_cache_displaces_no_other() -> None:
    cache = ImageCache(lambda name: Image.new("RGB", (100, 100) if name == "large" else (10, 10)), 500)
    cache("small")
    assert cache("large").size == (100, 100)
    assert list(cache._images) == ["small"]


def test_the_encoder_keeps_large_photos_within_the_cache() -> None:
    encoder = Encoder(str(BASE_MODEL), lambda _: Image.new("L", (4000, 3000)))  # one byte a pixel: a test needs less
    for n in range(20):
        encoder.load_image(str(n))
    assert isinstance(encoder.load_image, ImageCache)
    assert len(encoder.load_image._images) == CACHE_BYTES // (4 * 4000 * 3000) == 11
