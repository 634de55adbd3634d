"""A redirect is never followed: neither key nor prompt nor image reaches a host that was not named."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from policies import PolicyError
from policies.judge_endpoint import JudgeEndpoint
from policies.teacher.batch import BatchClient
from policies.teacher.client import Teacher
from policies.teacher.request import TeacherRequest, TeacherSettings

KEY = "sk-a-secret-key-of-this-test"


class Server(ThreadingHTTPServer):
    """Answers every request with a redirect to `target`, or with {} where there is none; `seen` has every head."""

    def __init__(self, status: int, target: str | None) -> None:
        self.status, self.target = status, target
        self.seen: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(str(self.headers))
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200 if self.server.target is None else self.server.status)
        if self.server.target is not None:
            self.send_header("Location", self.server.target)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(status: int = 200, target: str | None = None) -> Iterator[Server]:
    """The server, in a thread, while the context lasts."""
    with Server(status, target) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def ask_teacher(url: str) -> None:
    settings = TeacherSettings(url, "m", api_version="2024-10-21", attempts=2, backoff_s=0.01)
    list(Teacher(settings).ask_all([TeacherRequest("1", "a secret prompt")]))


def ask_for_batches(url: str) -> None:
    settings = TeacherSettings(url, "m", api_version="2024-10-21", attempts=2, backoff_s=0.01)
    client = BatchClient(Teacher(settings))
    try:
        client.find("key")
    finally:
        client.close()


def ask_judge(url: str) -> None:
    JudgeEndpoint(url, "m", 10, 5.0).ask("a secret prompt")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("ask", [ask_teacher, ask_for_batches, ask_judge])
def test_a_redirect_is_an_error_and_the_other_host_hears_nothing(
    ask: Callable[[str], None], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve() as other:
        # The same machine under another name: another host to every client.
        target = f"http://localhost:{other.server_address[1]}/v1/chat/completions"
        with serve(status, target) as named:
            with pytest.raises(PolicyError, match=rf"{status}, a redirect to localhost, .*not followed.*base_url"):
                ask(f"http://127.0.0.1:{named.server_address[1]}/v1")
            assert named.seen
            assert any(KEY in head for head in named.seen)
        assert other.seen == []


@pytest.mark.parametrize("location", ["http://a[b.com/", "//[", "/v2/chat/completions", "http://h\x7f.example/", ""])
def test_whatever_a_redirect_names_it_is_one_error(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve(307, location) as named, pytest.raises(PolicyError, match=r"307, a redirect to .*not followed"):
        ask_teacher(f"http://127.0.0.1:{named.server_address[1]}/v1")
