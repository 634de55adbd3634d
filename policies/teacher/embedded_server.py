"""A small OpenAI-compatible endpoint on loopback that stands in for GPT-4o in the embedded default.

It serves `/v1/chat/completions` over real HTTP, accepts images as data URLs and returns usage figures. It is no
model: its answers come from a function that reads the data set's annotations.
"""

import base64
import binascii
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

Writer = Callable[[str, str | None, list[str]], str | None]
"""(question, accepted answer or None, sha256 of each image) -> rationale, or None."""

QUESTION = re.compile(r"^Question: (.*?)(?=\nAccepted answer: |\Z)", re.MULTILINE | re.DOTALL)
ANSWER = re.compile(r"^Accepted answer: (.*)$", re.MULTILINE)
CHAIN = re.compile(r"^The student's chain:$", re.MULTILINE)
DATA_URL = re.compile(r"data:image/[a-z+.-]+;base64,(.*)", re.DOTALL)
TOKENS_PER_IMAGE = 85


def make_app(write: Writer) -> Starlette:
    """The endpoint as an ASGI application."""

    async def complete(request: Request) -> JSONResponse:
        try:
            body = await request.json()
            prompt, images = _read_message(body["messages"][-1]["content"])
        except (ValueError, KeyError, IndexError, TypeError, binascii.Error) as error:
            return JSONResponse({"error": {"message": f"bad request: {error}"}}, status_code=400)
        text = _answer(write, prompt, images) or "I cannot help with that."
        usage = {
            "prompt_tokens": len(prompt.split()) + TOKENS_PER_IMAGE * len(images),
            "completion_tokens": len(text.split()),
        }
        usage["total_tokens"] = sum(usage.values())
        message = {"role": "assistant", "content": text}
        return JSONResponse(
            {
                "id": f"chatcmpl-{time.time_ns()}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": body.get("model", ""),
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage,
            }
        )

    return Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])


def _answer(write: Writer, prompt: str, images: list[str]) -> str | None:
    """The answer to a prompt: a rationale for an answer, an answer with reasons, or a correction of a chain."""
    question, answer = QUESTION.search(prompt), ANSWER.search(prompt)
    text = write(question[1].strip(), answer and answer[1], images) if question else None
    if text is None or answer is None or not CHAIN.search(prompt):
        return text
    return f"### Mistake: It does not lead to {answer[1]}.\n### Chain:\n{text}"


def _read_message(content: Any) -> tuple[str, list[str]]:
    if isinstance(content, str):
        return content, []
    texts = [part["text"] for part in content if part["type"] == "text"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    digests = []
    for url in urls:
        match = DATA_URL.fullmatch(url)
        if match is None:
            raise ValueError("images must be data URLs")
        digests.append(hashlib.sha256(base64.b64decode(match[1], validate=True)).hexdigest())
    return "\n".join(texts), digests


def serve_teacher(write: Writer) -> AbstractContextManager[str]:
    """Serve what `write` knows; see `serve_app`."""
    return serve_app(make_app(write))


@contextmanager
def serve_app(app: ASGIApp) -> Iterator[str]:
    """Serve an endpoint on a free loopback port while the context lasts; yields the base URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the embedded teacher endpoint did not start")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(timeout=5)
        listener.close()
