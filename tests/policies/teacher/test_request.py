"""Requests to the teacher: what identifies one, and how its images are sent."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PIL import Image

from policies.teacher.image_parts import ImageFile, data_url
from policies.teacher.prices import Price
from policies.teacher.request import TeacherSettings, request_hash


def test_rare_formats_are_sent_as_png_and_large_images_smaller() -> None:
    def sent(kind: str, longest_edge: int) -> tuple[str, Image.Image]:
        buffer = io.BytesIO()
        Image.new("RGB", (40, 20)).save(buffer, format=kind)
        header, _, data = data_url(ImageFile(buffer.getvalue(), kind, 40, 20), longest_edge).partition(",")
        return header, Image.open(io.BytesIO(base64.b64decode(data)))

    for kind, edge, header, size in (
        ("bmp", 100, "png", (40, 20)),
        ("png", 10, "png", (10, 5)),
        ("jpeg", 10, "jpeg", (10, 5)),
        ("jpeg", 100, "jpeg", (40, 20)),
    ):
        named, image = sent(kind, edge)
        assert (named, image.size) == (f"data:image/{header};base64", size)


def test_the_hash_is_of_model_parameters_prompt_and_images_only() -> None:
    settings = TeacherSettings("u", "m")

    def of(prompt: str = "prompt", images: tuple[str, ...] = ("a",), **changes: Any) -> str:
        return request_hash(replace(settings, **changes), prompt, images)

    assert of() == of(base_url="elsewhere", concurrency=3, price=Price(2.5, 1.25, 10.0))
    changed: list[Callable[[], str]] = [
        lambda: of(prompt="another"),
        lambda: of(images=("b",)),
        lambda: of(model="other"),
        lambda: of(temperature=0.1),
        lambda: of(max_tokens=9),
        lambda: of(longest_edge=9),
    ]
    assert len({of(), *(make() for make in changed)}) == 7
