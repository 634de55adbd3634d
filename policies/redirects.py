"""Refuses redirects of endpoints, so that key, prompts and images go only to hosts that were named."""

from urllib.parse import urlsplit

import httpx2


def refused_redirect(response: httpx2.Response) -> str | None:
    """Words for the user about the address that a response redirects to; None if it is no redirect."""
    if not 300 <= response.status_code < 400:
        return None
    try:
        target = urlsplit(response.headers.get("location", "")).hostname or "another address"
    except ValueError:  # what a server sends need not be an address
        target = "another address"
    shown = "".join(letter if letter.isprintable() else "?" for letter in target)[:100]
    return f"{response.status_code}, a redirect to {shown}, and redirects are not followed"
