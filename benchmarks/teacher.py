"""The teacher's client against a loopback server: rate at concurrency 64, memory over 50,000 requests, limits kept.

Run: `python -m benchmarks.teacher`. The server is a process of its own on the same machine. Every
answer is committed to a store, every request carries an image.
"""

import argparse
import asyncio
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from base_model.scenes import draw_scene
from loop.config.teacher import TeacherConfig
from loop.teaching.ask_live import ask_live
from loop.teaching.setup import teacher_settings
from loop.teaching.tasks import TeacherTask
from loop.teaching.teacher_session import TeacherSession
from loop.teaching.templates import template
from loop.terminal.console import Console
from policies.teacher.client import Teacher
from store import Store, open_store
from store.new_questions import NewQuestion, add_questions
from store.questions import find_questions

MESSAGE = {"role": "assistant", "content": "It is red, as the image shows.\n### Answer: red"}
BODY = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320},
    }
).encode()


class _Answering(asyncio.Protocol):
    """One connection: answers every POST after `delay_s`, and GET with the arrival times so far."""

    arrivals: list[float]
    delay_s: float

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        lowered = head.lower()
        start = lowered.find(b"content-length:")
        length = int(lowered[start + 15 :].split(b"\r\n")[0]) if start >= 0 else 0
        if not found or len(rest) < length:
            return
        self.buffer = rest[length:]
        if head.startswith(b"GET"):
            self.answer(json.dumps(self.arrivals).encode())
        else:
            self.arrivals.append(time.time())
            asyncio.get_running_loop().call_later(self.delay_s, self.answer, BODY)

    def answer(self, body: bytes) -> None:
        """Send a response."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def _serve(delay_s: float) -> None:
    _Answering.arrivals, _Answering.delay_s = [], delay_s
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving(delay_s: float) -> Iterator[str]:
    """The server in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.teacher", "--serve", str(delay_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.terminate()
        process.wait()


def arrivals(url: str) -> list[float]:
    """When the server got its requests, in seconds."""
    with urllib.request.urlopen(url) as response:  # noqa: S310 - our own loopback server
        times: list[float] = json.load(response)
    return times


def tasks(store: Store, count: int) -> list[TeacherTask]:
    """Store `count` questions about 200 images; return the request for a rationale of each."""
    rng, images = random.Random(0), []
    for _ in range(200):
        buffer = io.BytesIO()
        draw_scene(rng).image.save(buffer, format="PNG")
        images.append(buffer.getvalue())
    add_questions(
        store,
        (NewQuestion(f"What is in {n}?", ["red"], [images[n % 200]], "train", "b", "exact") for n in range(count)),
    )
    asked = template("rationale")
    return [
        TeacherTask(question, asked, asked.fill(question=question.text, answer="red"))
        for question in find_questions(store, "1 ORDER BY id")
    ]


def teacher_session(store: Store, url: str, **keys: float) -> TeacherSession:
    """The client as a run has it."""
    config = TeacherConfig.model_validate({"base_url": url, "concurrency": 64, **keys})
    teacher = Teacher(teacher_settings(config, url), embedded=True)
    return TeacherSession(store, teacher, config, Console(), 0, "cold_start", lambda: False)


def rss_mib() -> float:
    """This process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def rate(count: int, delay_s: float) -> dict[str, float]:
    """Answers a second, committed, at concurrency 64, beside the ideal of 64 / delay."""
    with tempfile.TemporaryDirectory() as folder, serving(delay_s) as url:
        store = open_store(Path(folder), create=True)
        todo = tasks(store, count)
        started = time.perf_counter()
        assert sum(len(calls) for calls in ask_live(teacher_session(store, url), todo)) == count
        seconds = time.perf_counter() - started
        store.close()
    ideal = 64 / delay_s
    return {"requests_per_s": count / seconds, "ideal": ideal, "share": count / seconds / ideal}


def memory(count: int) -> dict[str, list[float]]:
    """Resident MiB after each tenth of `count` requests with images."""
    seen, marks = 0, list[float]()
    with tempfile.TemporaryDirectory() as folder, serving(0.0) as url:
        store = open_store(Path(folder), create=True)
        todo = tasks(store, count)
        for calls in ask_live(teacher_session(store, url), todo):
            seen += len(calls)
            if seen * 10 // count > len(marks):
                marks.append(round(rss_mib(), 1))
        store.close()
    return {"mib_after_each_tenth": marks}


def limits(per_minute: int, count: int) -> dict[str, float]:
    """The rate that the server saw under a limit, as a share of it, over the whole and in the worst minute."""
    with tempfile.TemporaryDirectory() as folder, serving(0.2) as url:
        store = open_store(Path(folder), create=True)
        for _ in ask_live(teacher_session(store, url, requests_per_minute=per_minute), tasks(store, count)):
            pass
        store.close()
        times = sorted(arrivals(url))
    per_second = per_minute / 60
    whole = (len(times) - 1) / (times[-1] - times[0]) / per_second
    minutes = [bisect_left(times, t + 60) - n for n, t in enumerate(times) if t + 60 <= times[-1]]
    return {"limit_per_minute": per_minute, "share_over_all": whole, "share_in_worst_minute": max(minutes) / per_minute}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=float, help="be the server, with this delay in seconds")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--requests", type=int, default=6_400, help="requests of each measurement of the rate")
    parser.add_argument("--memory-requests", type=int, default=50_000)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(_serve(options.serve))
    rates = [rate(options.requests, 0.2) for _ in range(options.repeats)]
    print(json.dumps({"rate": rates, "median_share": statistics.median(each["share"] for each in rates)}))
    print(json.dumps({"limits": [limits(per_minute, count) for per_minute, count in ((600, 700), (3_000, 3_500))]}))
    print(json.dumps({"memory": memory(options.memory_requests)}))


if __name__ == "__main__":
    main()
