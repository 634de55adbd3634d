"""Endpoints on this machine: they are free and need no key."""

from urllib.parse import urlsplit

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

LOOPBACK_KEY = "loopback"
"""Sent where the client library wants a key and the server wants none."""


def is_loopback(base_url: str) -> bool:
    """Whether an endpoint is on this machine."""
    return urlsplit(base_url).hostname in LOOPBACK_HOSTS
