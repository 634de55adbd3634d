"""HTTP clients that read no more of a response than an answer can need: a server may send 50 MB, or never end.

Decoded bytes count, so the limit also holds for a small compressed answer that decodes to gigabytes.
"""

from typing import Any

import httpx2
import openai

OTHER_BYTES = 1 << 20
"""For all of a response that is not the answer: other fields, a list of batches, an error's page."""

TOKEN_BYTES = 64
"""More than a token of text takes, escaped as JSON."""

TOO_LONG = "ratchet_too_long"
"""The extension of a response that was left unread; its content is empty."""

OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that describe the body as it was sent, which is decoded."""


def most_response_bytes(max_tokens: int) -> int:
    """Most bytes that are read of the response to a request for `max_tokens` tokens."""
    return OTHER_BYTES + TOKEN_BYTES * max_tokens


def is_too_long(response: httpx2.Response) -> bool:
    """Whether a response had more bytes than its client reads."""
    return TOO_LONG in response.extensions


class LimitedClient(openai.DefaultHttpxClient):
    """The library's client; it reads at most `most_bytes` of a response that is not streamed."""

    def __init__(self, most_bytes: int, **options: Any) -> None:
        self._most_bytes = most_bytes
        super().__init__(**options)

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """The response, read to the limit; see `is_too_long`."""
        response = super().send(request, stream=True, **options)
        if stream:
            return response
        content, size = [], 0
        try:
            for chunk in response.iter_bytes():
                content.append(chunk)
                size += len(chunk)
                if size > self._most_bytes:
                    return _read(response, b"", too_long=True)
        finally:
            response.close()
        return _read(response, b"".join(content))


class LimitedAsyncClient(openai.DefaultAioHttpClient):
    """The library's asynchronous client with the same limit."""

    def __init__(self, most_bytes: int, **options: Any) -> None:
        self._most_bytes = most_bytes
        super().__init__(**options)

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """The response, read to the limit; see `is_too_long`."""
        response = await super().send(request, stream=True, **options)
        if stream:
            return response
        content, size = [], 0
        try:
            async for chunk in response.aiter_bytes():
                content.append(chunk)
                size += len(chunk)
                if size > self._most_bytes:
                    return _read(response, b"", too_long=True)
        finally:
            await response.aclose()
        return _read(response, b"".join(content))


def _read(response: httpx2.Response, content: bytes, *, too_long: bool = False) -> httpx2.Response:
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in OF_THE_BODY]
    extensions = {TOO_LONG: True} if too_long else {}
    return httpx2.Response(
        response.status_code, headers=headers, content=content, request=response.request, extensions=extensions
    )
