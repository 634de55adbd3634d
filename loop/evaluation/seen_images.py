"""Images of a benchmark that the run trains on: the same file, or another file with the same pixels."""

import hashlib

from store import Store
from store.benchmarks import (
    images_of_equal_size,
    question_trained_with,
    questions_with_image,
    same_files_trained_on,
)
from store.questions import image_size, load_image


def seen_in_training(store: Store, split: str) -> dict[int, int]:
    """Question of the split -> a question that is trained on and shows one of its images.

    Sets store an image anew in another format, so images of equal size are compared pixel by pixel too. One that was
    scaled or cropped is not recognised.
    """
    seen = same_files_trained_on(store, split)
    own, trained = images_of_equal_size(store, split)
    by_pixels = {_pixels(store, digest): digest for digest in trained}
    for digest in own if by_pixels else ():
        if (same := by_pixels.get(_pixels(store, digest))) is not None and same != digest:
            found = question_trained_with(store, same)
            assert found is not None
            for question in questions_with_image(store, digest, split):
                seen.setdefault(question, found)
    return seen


def _pixels(store: Store, digest: str) -> bytes:
    size = "{} x {}".format(*image_size(store, digest))
    return hashlib.sha256(size.encode() + load_image(store, digest).tobytes()).digest()
