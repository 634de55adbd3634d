"""An OpenAI-compatible server whose every answer can go wrong in a chosen way. It counts what it is asked.

Written on bare sockets, because real faults (a reset in the middle of a body, a slow drip) are below HTTP.
"""

import asyncio
import gzip
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Behaviour = Callable[[int, str], str | dict[str, Any]]
"""(how many requests came before, the prompt) -> the name of what to do, or a body to answer with."""

STATUS_FAULTS: dict[str, tuple[int, dict[str, str]]] = {
    "429": (429, {}),
    "429 retry-after": (429, {"Retry-After": "0.3"}),
    "429 retry-after-ms": (429, {"retry-after-ms": "20"}),
    "429 wait an hour": (429, {"Retry-After": "3600"}),
    "500": (500, {}),
    "502": (502, {}),
    "503": (503, {"retry-after-ms": "50"}),
    "401": (401, {}),
    "403": (403, {}),
    "404": (404, {}),
    "400": (400, {}),
}
MESSAGES = {
    "400": "Image is too large: 30000x30000",
    "401": "Incorrect API key provided: {key}",
}


def completion(text: str | None, **changes: Any) -> dict[str, Any]:
    """A chat completion; `changes` replace keys of the choice, its message or the whole."""
    message: dict[str, Any] = {"role": "assistant", "content": text, **changes.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": changes.pop("finish_reason", "stop")}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return {key: value for key, value in {**whole, **changes}.items() if value is not ...}


BODIES: dict[str, dict[str, Any]] = {
    "empty choices": completion("", choices=[]),
    "null content": completion(None),
    "length": completion("It looks", finish_reason="length"),
    "content_filter": completion("", finish_reason="content_filter"),
    "refusal": completion(None, message={"refusal": "I can't help with that."}),
    "no usage": completion("### Answer: red", usage=...),
    "odd usage": completion("### Answer: red", usage={"prompt_tokens": -3, "completion_tokens": "x"}),
    "cached": completion(
        "### Answer: red",
        usage={"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 600}},
    ),
    "long text": completion("It is red. " * 10_000),
    "no completion": {"hello": "world"},
    "odd choice": completion("", choices=[{"message": 3}]),
}


class FaultServer:
    """`asked` counts requests by prompt, `answered` those whose whole good answer was handed to the network."""

    def __init__(self, behave: Behaviour, delay_s: float = 0.0, headers: dict[str, str] | None = None) -> None:
        self.behave = behave
        self.delay_s = delay_s
        self.headers = headers or {}
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.times: list[float] = []
        self.bodies: list[dict[str, Any]] = []
        self.request_headers: list[str] = []
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive until the client closes it."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                text = head.decode()
                length = int(
                    next(line for line in text.split("\r\n") if line.lower().startswith("content-length"))[15:]
                )
                body = json.loads(await reader.readexactly(length))
                prompt = body["messages"][0]["content"][-1]["text"]
                number = sum(self.asked.values())
                self.asked[prompt] += 1
                self.times.append(asyncio.get_running_loop().time())
                self.bodies.append(body)
                self.request_headers.append(text)
                await asyncio.sleep(self.delay_s)
                if not await self.answer(self.behave(number, prompt), prompt, text, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, what: str | dict[str, Any], prompt: str, head: str, writer: asyncio.StreamWriter) -> bool:
        """Do what the behaviour says; False where the connection is over."""
        if isinstance(what, dict):
            return await self.send(writer, 200, json.dumps(what))
        good = completion("It is red.\n### Answer: red")
        if what in STATUS_FAULTS:
            status, headers = STATUS_FAULTS[what]
            key = head.lower().partition("bearer ")[2].split("\r")[0]
            message = MESSAGES.get(what, "no").replace("{key}", key)
            return await self.send(writer, status, json.dumps({"error": {"message": message}}), headers=headers)
        if what == "quota":
            error = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
            return await self.send(writer, 429, json.dumps({"error": error}))
        if what == "reset":
            await self.send(writer, 200, json.dumps(good), cut=40)
            writer.transport.abort()
            return False
        if what == "hang":
            await asyncio.sleep(3600)
        if what == "drip":
            for byte in (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n" + b" " * 9000
            ):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
        if what == "not json":
            return await self.send(writer, 200, '{"choices": [')
        if what == "html":
            return await self.send(writer, 200, "<html>Sign in</html>", kind="text/html")
        if what == "50 MB":
            return await self.send(writer, 200, json.dumps(completion("It is red. " * 5_000_000)))
        if what == "unfolds to 50 MB":
            body = gzip.compress(json.dumps(completion("It is red. " * 5_000_000)).encode())
            return await self.send(writer, 200, body, headers={"Content-Encoding": "gzip"})
        if what == "50 MB of an error":
            return await self.send(writer, 503, "x" * 50_000_000)
        if what in BODIES:
            return await self.send(writer, 200, json.dumps(BODIES[what]))
        kind = "text/plain" if what == "wrong type" else "application/json"
        await self.send(writer, 200, json.dumps(good), kind=kind)
        self.answered[prompt] += 1
        return True

    async def send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        body: str | bytes,
        *,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> bool:
        """Write a response; with `cut` only the first `cut` bytes of its body."""
        content = body.encode() if isinstance(body, str) else body
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in {**self.headers, **(headers or {})}.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content[:cut])
        await writer.drain()
        return True


@contextmanager
def serve(
    behave: Behaviour | str = "ok", delay_s: float = 0.0, headers: dict[str, str] | None = None
) -> Iterator[FaultServer]:
    """Serve on a free loopback port in a thread of its own."""
    server = FaultServer(behave if callable(behave) else lambda *_: behave, delay_s, headers)
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(server.handle, "127.0.0.1", 0, limit=2**24, backlog=1024))
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        if tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()
