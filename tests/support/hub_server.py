"""The part of the hub's interface that an upload uses, over real HTTP, for `HF_ENDPOINT`."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """The requests that the server got, and the files of each repository."""

    url: str = ""
    key: str = "hf_right"
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: int = 0
    refused: int = 0


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that takes every file inline; a request without the right key gets status 401."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {hub.key}":
                hub.refused += 1
                self.reply({"error": "Invalid credentials"}, 401)
            elif self.path == "/api/repos/create":
                asked = json.loads(body)
                hub.created.append(asked)
                name = f"{asked.get('organization')}/{asked['name']}"
                kind = "datasets/" if asked.get("type") == "dataset" else ""
                self.reply({"url": f"{hub.url}/{kind}{name}", "id": name})
            elif self.path == "/api/validate-yaml":
                self.reply({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                modes = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
                self.reply({"files": modes})
            elif "/commit/" in self.path:
                self.commit(body)
            else:
                self.reply({"error": f"no such address {self.path}"}, 404)

        def commit(self, body: bytes) -> None:
            repository = self.path.removeprefix("/api/").partition("/commit/")[0]
            content = hub.files.setdefault(repository, {})
            for line in body.splitlines():
                operation = json.loads(line)
                if operation["key"] == "file":
                    value = operation["value"]
                    content[value["path"]] = base64.b64decode(value["content"])
            hub.commits += 1
            oid = f"{hub.commits:040x}"
            self.reply({"commitUrl": f"{hub.url}/{repository}/commit/{oid}", "commitOid": oid, "success": True})

        def do_GET(self) -> None:
            self.reply({"error": "Entry not found"}, 404)

        do_HEAD = do_GET  # noqa: N815

        def reply(self, content: dict[str, Any], status: int = 200) -> None:
            body = b"" if self.command == "HEAD" else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
