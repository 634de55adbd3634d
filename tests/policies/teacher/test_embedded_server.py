"""The embedded teacher over real HTTP: it reads images, counts tokens, and refuses what it cannot read."""

import hashlib
import io
import random

import openai
import pytest
from openai.types.chat import ChatCompletionContentPartImageParam

from base_model.scenes import draw_scene
from policies.teacher.client import Teacher
from policies.teacher.embedded_server import serve_teacher
from policies.teacher.image_parts import ImageFile
from policies.teacher.request import TeacherRequest, TeacherSettings

PROMPT = "Write a rationale.\n\nQuestion: what color is it?\nAccepted answer: red\n"


def teacher(url: str) -> Teacher:
    return Teacher(TeacherSettings(url, "m"), embedded=True)


def png() -> ImageFile:
    buffer = io.BytesIO()
    draw_scene(random.Random(0)).image.save(buffer, format="PNG")
    return ImageFile(buffer.getvalue(), "png", 64, 64)


def test_the_embedded_teacher_reads_images_and_counts_tokens() -> None:
    seen: list[tuple[str, str | None, list[str]]] = []

    def write(question: str, answer: str | None, images: list[str]) -> str:
        seen.append((question, answer, images))
        return f"It looks red.\n### Answer: {answer}"

    with serve_teacher(write) as url:
        (((asked, reply),),) = list(teacher(url).ask_all([TeacherRequest("1", PROMPT, (png(),))]))
    assert asked.key == "1"
    assert reply.status == "answered"
    assert reply.text.endswith("### Answer: red")
    assert reply.usage.prompt > 85
    assert reply.usage.completion > 0
    assert seen == [("what color is it?", "red", [hashlib.sha256(png().content).hexdigest()])]


def test_the_embedded_teacher_refuses_what_it_cannot_read() -> None:
    with serve_teacher(lambda *_: None) as url:
        client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
        image: ChatCompletionContentPartImageParam = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
        with pytest.raises(openai.BadRequestError, match="data URLs"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": [image]}])
        (((_, reply),),) = list(teacher(url).ask_all([TeacherRequest("1", PROMPT)]))
    assert "cannot help" in reply.text
