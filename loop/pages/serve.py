"""`serve`: the pages over HTTP, read from the store at every request while the run writes it."""

import hashlib
import mimetypes
import re
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from loop.errors import InputError
from loop.pages.access import Guard, is_loopback
from loop.pages.attempts import read_attempts, read_question, with_token_scores
from loop.pages.browse import Filter, Side, count_questions, list_questions, parse_filter, question_sets, sides
from loop.pages.figures import Counted, Figures, read_figures
from loop.pages.render import FOLDER, filter_context, overview_context, render
from loop.pages.thumbnails import browser_image
from store import Store, StoreError, open_store

MIN_AGE_S = 2.0
REST_FACTOR = 10.0
"""Figures that took a second to read are cached for ten, so that viewing does not slow the run."""

IMAGE_CACHE = "private, max-age=86400"
STATIC = ("style.css", "charts.js", "live.js", "echarts.min.js")
SHUTDOWN_S = 2
TOKEN_BYTES = 24
MIN_TOKEN_CHARACTERS = 16


def serve_run(
    run_dir: Path, host: str, port: int, token: str | None, guarded: bool, announce: Callable[[str], None]
) -> None:
    """Serve until stopped. Raises InputError for an address beyond loopback without a token, or one in use."""
    if not guarded and not is_loopback(host):
        raise InputError(f"--host {host} can be reached from other machines: add --token")
    if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
        raise InputError(f"RATCHET_TOKEN is shorter than {MIN_TOKEN_CHARACTERS} characters; unset it and one is made")
    token = token or (secrets.token_urlsafe(TOKEN_BYTES) if guarded else None)
    open_store(run_dir, read_only=True).close()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"--host {host} --port {port}: {error.strerror}; give another port, or 0 for a free one"
        ) from None
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}/"
    announce(f"{run_dir} at {address}" + (f"?{urlencode({'token': token})}" if token else "") + " (Ctrl-C stops)")
    settings: dict[str, Any] = {"log_level": "warning", "access_log": False, "timeout_graceful_shutdown": SHUTDOWN_S}
    server = uvicorn.Server(uvicorn.Config(application(run_dir, host, token), **settings))
    with listening:
        server.run(sockets=[listening])


def application(run_dir: Path, host: str = "127.0.0.1", token: str | None = None) -> Starlette:
    """The pages of a run as an ASGI application."""
    pages = Pages(run_dir)
    return Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/questions", pages.questions),
            Route("/questions/{number}", pages.question),
            Route("/images/{digest}", pages.image),
            Route("/static/{name}", static),
        ],
        middleware=[Middleware(Guard, host=host, token=token)],
        exception_handlers={
            InputError: pages.bad_request,
            HTTPException: pages.not_found,
            StoreError: pages.unavailable,
            sqlite3.Error: pages.unavailable,
        },
    )


class Pages:
    """The pages of one run. Each request opens the store anew, so a replaced store is noticed."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.name = run_dir.resolve().name
        self._lock = threading.Lock()
        self._counted = Counted()
        self._figures: Figures | None = None
        self._fresh_until = 0.0

    def overview(self, request: Request) -> Response:
        """Curves, rounds and the run's status."""
        with self._store() as store:
            figures, sets = self._read(store), question_sets(store)
        context = overview_context(figures, lambda first, second: _lost_link(sets, first, second))
        return self._page(request, "overview.html", "overview", context)

    def questions(self, request: Request) -> Response:
        """A page of the list of questions."""
        with self._store() as store, store.snapshot():
            found = parse_filter(store, dict(request.query_params))
            page, total = list_questions(store, found), count_questions(store, found)
            context = {**filter_context(found, sides(store), question_sets(store)), "page": page, "total": total}

        def order_link(order: str) -> str:
            turned = order == found.order and not found.descending
            return _list_link(replace(found, order=order, descending=turned, after=""))

        def question_link(number: int) -> str:
            return f"/questions/{number}?{urlencode(_parameters(found))}"

        links = {
            "order_link": order_link,
            "question_link": question_link,
            "first_link": _list_link(replace(found, after="")),
            "next_link": None if page.after is None else _list_link(replace(found, after=page.after)),
        }
        return self._page(request, "questions.html", "questions", {"name": self.name, **context, **links})

    def question(self, request: Request) -> Response:
        """One question with the chains of two rounds."""
        with self._store() as store, store.snapshot():
            found = parse_filter(store, dict(request.query_params))
            number = request.path_params["number"]
            if not re.fullmatch("[0-9]{1,18}", number):  # SQLite holds no more
                raise HTTPException(404, "there is no such question")
            try:
                card = read_question(store, int(number))
            except InputError as error:
                raise HTTPException(404, str(error)) from error
            both = dict.fromkeys((found.first, found.second))
            compared = [
                (side, [with_token_scores(store, each) for each in read_attempts(store, card, side)]) for side in both
            ]
            known = sides(store)
        context = {
            "name": self.name,
            "card": card,
            "compared": compared,
            "sides": known,
            "pictures": [(image, f"/images/{image.digest}") for image in card.images],
            "back_link": _list_link(found),
        }
        return self._page(request, "question.html", "questions", context)

    def image(self, request: Request) -> Response:
        """An image of the store."""
        digest = request.path_params["digest"]
        with self._store() as store:
            try:
                content, media_type = browser_image(store, digest)
            except StoreError as error:
                raise HTTPException(404, str(error)) from error
        return Response(content, media_type=media_type, headers={"Cache-Control": IMAGE_CACHE})

    def bad_request(self, request: Request, error: Exception) -> Response:
        """The page for an invalid parameter."""
        return self._message(request, 400, "That cannot be shown", str(error))

    def not_found(self, request: Request, error: Exception) -> Response:
        """The page for an unknown address."""
        assert isinstance(error, HTTPException)
        return self._message(request, error.status_code, "Nothing here", error.detail)

    def unavailable(self, request: Request, error: Exception) -> Response:
        """The page for a store that cannot be read now."""
        return self._message(request, 503, "The store cannot be read now", str(error))

    def _message(self, request: Request, status: int, title: str, text: str) -> Response:
        context = {"name": self.name, "title": title, "text": text}
        return self._page(request, "message.html", "", context, status)

    def _page(self, request: Request, template: str, here: str, context: dict[str, Any], status: int = 200) -> Response:
        content = render(template, here=here, **context).encode()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if status == 200 and request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return HTMLResponse(content, status, headers={"ETag": tag})

    @contextmanager
    def _store(self) -> Iterator[Store]:
        store = open_store(self.run_dir, read_only=True)
        try:
            yield store
        finally:
            store.close()

    def _read(self, store: Store) -> Figures:
        """The figures, shared by requests at about the same time."""
        with self._lock:
            if self._figures is None or time.monotonic() > self._fresh_until:
                began = time.monotonic()
                self._figures = read_figures(store, self._counted)
                ended = time.monotonic()
                self._fresh_until = ended + max(MIN_AGE_S, REST_FACTOR * (ended - began))
            return self._figures


def static(request: Request) -> Response:
    """A script or the style sheet."""
    name = request.path_params["name"]
    if name not in STATIC:
        raise HTTPException(404, f"there is no file {name}")
    content = (FOLDER / "static" / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=mimetypes.guess_type(name)[0], headers=headers)


def _lost_link(sets: list[str], first: Side, second: Side) -> str:
    if len(sets) < 2:
        return ""
    return "/questions?" + urlencode({"set": sets[1], "first": first.key, "second": second.key, "show": "lost"})


def _list_link(found: Filter) -> str:
    return "/questions?" + urlencode(_parameters(found))


def _parameters(found: Filter) -> dict[str, str]:
    asked = {
        "set": found.questions,
        "first": found.first.key,
        "second": found.second.key,
        "q": found.search,
        "show": found.show,
        "order": found.order,
        "descending": "1" if found.descending else "",
        "after": found.after,
    }
    return {key: value for key, value in asked.items() if value}
