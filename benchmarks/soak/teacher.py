"""The embedded teacher as a separate endpoint that can be made to fail."""

import asyncio
import random
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from loop.questions.sources.easy_vqa import write_rationale
from policies.teacher.embedded_server import make_app, serve_app

FAULTS = ("429", "500", "502", "503", "not json", "cut", "slow")


class FaultyTeacher:
    """An ASGI application around the embedded teacher. `share` of its answers have a fault that may pass."""

    def __init__(self) -> None:
        self._app = make_app(write_rationale)
        self._drawn = random.Random(0)
        self.share, self.faults = 0.0, 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if self._drawn.random() >= self.share:
            await self._app(scope, receive, send)
            return
        self.faults += 1
        fault = self._drawn.choice(FAULTS)
        if fault == "slow":
            await asyncio.sleep(self._drawn.uniform(0.5, 5))
            await self._app(scope, receive, send)
            return
        status, body = (int(fault), b"{}") if fault.isdecimal() else (200, b'{"choices": [')
        length = len(body) + (100 if fault == "cut" else 0)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(length).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def serve_faulty_teacher() -> Iterator[tuple[str, FaultyTeacher]]:
    """Serve it on a free loopback port; yields the application and its address."""
    teacher = FaultyTeacher()
    with serve_app(teacher) as url:
        yield url, teacher
