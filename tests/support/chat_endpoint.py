"""A real HTTP server on loopback that speaks chat completions, with replies made by the test."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STOP_CHECK_S = 0.01
"""How often the server looks whether it is to stop; the end of every test waits for it."""


@contextmanager
def endpoint(reply: Callable[[str], str]) -> Iterator[str]:
    """A real HTTP server that speaks chat completions; `reply` gets the prompt's text."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = reply(asked["messages"][0]["content"][-1]["text"])
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            content = json.dumps(body).encode()
            self.send_response(404 if text == "404" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(STOP_CHECK_S,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
