"""The teacher: the real client over real HTTP, with the shipped endpoint and with servers that fail."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from base_model.scenes import draw_scene
from policies import PolicyError
from policies.teacher import KEY_VARIABLE, Teacher, TeacherRequest, TeacherSettings, data_url, request_hash
from policies.teacher_endpoint import serve_teacher

PROMPT = "Write a rationale.\n\nQuestion: what color is it?\nAccepted answer: red\n"


def request(question: int = 1, image: bytes | None = None) -> TeacherRequest:
    return TeacherRequest(str(question), question, PROMPT, () if image is None else ((image, "png"),))


def png() -> bytes:
    import io
    import random

    buffer = io.BytesIO()
    draw_scene(random.Random(0)).image.save(buffer, format="PNG")
    return buffer.getvalue()


def test_the_shipped_endpoint_reads_images_and_counts_tokens() -> None:
    import hashlib

    seen: list[tuple[str, str, list[str]]] = []

    def write(question: str, answer: str, images: list[str]) -> str:
        seen.append((question, answer, images))
        return f"It looks red.\n### Answer: {answer}"

    with serve_teacher(write) as url:
        teacher = Teacher(TeacherSettings(url, "stand-in"), needs_key=False)
        ((asked, reply),) = teacher.ask_all([request(image=png())])
    assert asked.question == 1
    assert reply.text.endswith("### Answer: red")
    assert reply.prompt_tokens > 85
    assert reply.completion_tokens > 0
    assert seen == [("what color is it?", "red", [hashlib.sha256(png()).hexdigest()])]


def test_the_shipped_endpoint_refuses_what_it_cannot_read() -> None:
    with serve_teacher(lambda *_: None) as url:
        client = openai.OpenAI(base_url=url, api_key="x", max_retries=0)
        content = [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]
        with pytest.raises(openai.BadRequestError, match="data URLs"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
        teacher = Teacher(TeacherSettings(url, "m"), needs_key=False)
        ((_, reply),) = teacher.ask_all([request()])
    assert "cannot help" in reply.text


@contextmanager
def failing_server(statuses: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Answers with these statuses in turn, then 200; yields its URL and the statuses it sent."""
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses[len(sent)] if len(sent) < len(statuses) else 200
            sent.append(status)
            message = {"role": "assistant", "content": "### Answer: red"}
            body = {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
            content = json.dumps(body if status == 200 else {"error": {"message": "no"}}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", sent
    finally:
        server.shutdown()
        server.server_close()


def test_rate_limits_and_server_errors_are_retried() -> None:
    with failing_server([429, 500]) as (url, sent):
        teacher = Teacher(TeacherSettings(url, "m"), needs_key=False)
        replies = list(teacher.ask_all([request()]))
    assert sent == [429, 500, 200]
    assert replies[0][1].text == "### Answer: red"


def test_a_bad_key_stops_at_once_and_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret-key")
    with failing_server([401] * 9) as (url, sent):
        teacher = Teacher(TeacherSettings(url, "m", concurrency=1), needs_key=True)
        with pytest.raises(PolicyError, match=KEY_VARIABLE) as caught:
            list(teacher.ask_all([request()]))
    assert sent == [401]
    assert "sk-secret-key" not in str(caught.value)
    assert "sk-secret-key" not in repr(teacher.settings)


def test_a_missing_key_is_named_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(PolicyError, match=KEY_VARIABLE):
        Teacher(TeacherSettings("http://127.0.0.1:9/v1", "m"), needs_key=True)


def test_an_endpoint_out_of_reach_is_named_with_the_cure() -> None:
    teacher = Teacher(TeacherSettings("http://127.0.0.1:9/v1", "m", attempts=2), needs_key=False)
    with pytest.raises(PolicyError, match=r"teacher unreachable at http://127\.0\.0\.1:9/v1; .*teacher\.enabled"):
        list(teacher.ask_all([request()]))


def test_what_was_answered_before_a_failure_is_handed_out() -> None:
    with failing_server([200, 200, 401, 401, 401, 401]) as (url, _):
        teacher = Teacher(TeacherSettings(url, "m", concurrency=1), needs_key=False)
        replies = teacher.ask_all([request(n) for n in range(6)])
        assert next(replies)[0].question == 0
        assert next(replies)[0].question == 1
        with pytest.raises(PolicyError):
            list(replies)


def test_a_request_that_cannot_be_answered_is_recorded_and_the_others_go_on() -> None:
    with failing_server([400]) as (url, sent):
        teacher = Teacher(TeacherSettings(url, "m", concurrency=1), needs_key=False)
        replies = [reply for _, reply in teacher.ask_all([request(0), request(1)])]
    assert sent == [400, 200]
    assert [reply.finish_reason for reply in replies] == ["refused (400)", "stop"]


def test_once_stopping_what_is_in_flight_is_still_handed_out() -> None:
    with failing_server([]) as (url, sent):
        teacher = Teacher(TeacherSettings(url, "m", concurrency=4), needs_key=False)
        seen: list[int] = []
        for asked, _ in teacher.ask_all((request(n) for n in range(50)), lambda: len(seen) >= 3):
            seen.append(asked.question)
    assert 3 <= len(seen) == len(sent) <= 8


def test_rare_image_formats_are_sent_as_png_and_large_images_smaller() -> None:
    import base64
    import io

    from PIL import Image

    def sent(kind: str, longest_edge: int) -> Image.Image:
        buffer = io.BytesIO()
        Image.new("RGB", (40, 20)).save(buffer, format=kind)
        header, _, data = data_url(buffer.getvalue(), kind, longest_edge).partition(",")
        assert header == "data:image/png;base64"
        return Image.open(io.BytesIO(base64.b64decode(data)))

    assert sent("bmp", 100).size == (40, 20)
    assert sent("png", 10).size == (10, 5)


def test_the_hash_depends_on_question_prompt_images_and_model_only() -> None:
    settings = TeacherSettings("u", "m")
    one = request_hash(settings, 1, PROMPT, ["a"])
    assert one == request_hash(TeacherSettings("elsewhere", "m", concurrency=3), 1, PROMPT, ["a"])
    others = [
        request_hash(settings, 2, PROMPT, ["a"]),
        request_hash(settings, 1, PROMPT + "x", ["a"]),
        request_hash(settings, 1, PROMPT, ["b"]),
        request_hash(TeacherSettings("u", "other"), 1, PROMPT, ["a"]),
    ]
    assert len({one, *others}) == 5
