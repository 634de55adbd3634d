"""A small implementation of the files and batches endpoints, with items that fail and batches that expire."""

import email
import json
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.fault_server import BODIES, completion

STOP_CHECK_S = 0.01
"""How often the server looks whether it is to stop; the end of every test waits for it."""

Item = Callable[[str], str]
"""The prompt of an item -> "ok", the name of a body, a status such as "500", "expired", or "missing"."""


class BatchServer:
    """Files and batches; a batch ends after `polls` looks at it. `done` counts answered items by prompt."""

    def __init__(self, item: Item, polls: int, ends_as: str) -> None:
        self.item = item
        self.polls = polls
        self.ends_as = ends_as
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.lose_next_reply = False

    def create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """`POST /batches`."""
        id_ = f"batch_{len(self.batches)}"
        self.batches[id_] = {
            "id": id_,
            "object": "batch",
            "endpoint": wanted["endpoint"],
            "completion_window": wanted["completion_window"],
            "created_at": 1,
            "input_file_id": wanted["input_file_id"],
            "metadata": wanted.get("metadata"),
            "status": "in_progress",
        }
        return self.batches[id_]

    def look(self, id_: str) -> dict[str, Any] | None:
        """`GET /batches/ID`: nearer to its end each time."""
        batch = self.batches.get(id_)
        if batch is None:
            return None
        self.looks[id_] += 1
        if self.looks[id_] >= self.polls and batch["status"] == "in_progress":
            self.finish(batch)
        return batch

    def finish(self, batch: dict[str, Any]) -> None:
        """Answer the items into an output and an error file, as the Batch API does."""
        batch["status"] = self.ends_as
        if self.ends_as == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": "x", "message": "line 1 is not valid"}]}
            return
        output, errors = [], []
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        for line in lines:
            prompt = line["body"]["messages"][0]["content"][-1]["text"]
            what = self.item(prompt)
            row: dict[str, Any] = {"id": "1", "custom_id": line["custom_id"], "response": None, "error": None}
            if what == "missing":
                continue
            if what == "expired":
                row["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
                errors.append(row)
            elif what.isdigit():
                row["response"] = {"status_code": int(what), "body": {"error": {"message": "no"}}}
                errors.append(row)
            else:
                body = BODIES.get(what) or completion("It is red.\n### Answer: red")
                row["response"] = {"status_code": 200, "body": body}
                output.append(row)
                self.done[prompt] += 1
        output += [{"custom_id": "somebody else's"}, *output[:1]]
        for name, rows in (("output", output), ("error", errors)):
            self.files[f"{name}_{batch['id']}"] = "".join(json.dumps(row) + "\n" for row in rows).encode() + b"oops\n"
            batch[f"{name}_file_id"] = f"{name}_{batch['id']}"
        batch["request_counts"] = {"total": len(lines), "completed": len(output), "failed": len(errors)}


@contextmanager
def serve_batches(item: Item = lambda _: "ok", polls: int = 2, ends_as: str = "completed") -> Iterator[BatchServer]:
    """Serve on a free loopback port while the context lasts."""
    server = BatchServer(item, polls, ends_as)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/files":
                kind = self.headers["Content-Type"].encode()
                form = email.message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + content)
                parts: dict[str, bytes] = {}
                for part in form.walk():
                    value = part.get_payload(decode=True)
                    if isinstance(value, bytes):
                        parts[str(part.get_param("name", header="content-disposition"))] = value
                assert parts["purpose"] == b"batch"
                id_ = f"file_{len(server.files)}"
                server.files[id_] = parts["file"]
                self.reply({"id": id_, "object": "file", "purpose": "batch"})
            else:
                batch = server.create(json.loads(content))
                if server.lose_next_reply:
                    server.lose_next_reply = False
                    self.close_connection = True
                    return
                self.reply(batch)

        def do_GET(self) -> None:
            path = urllib.parse.urlparse(self.path).path
            if path == "/v1/batches":
                self.reply({"object": "list", "data": list(server.batches.values()), "has_more": False})
            elif path.endswith("/content"):
                self.reply(server.files[path.split("/")[3]])
            else:
                found = server.look(path.split("/")[3])
                self.reply(found or {"error": {"message": "no such batch"}}, 200 if found else 404)

        def reply(self, body: Any, status: int = 200) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, args=(STOP_CHECK_S,), daemon=True).start()
    server.url = f"http://127.0.0.1:{listening.server_port}/v1"
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
