"""Asking a model over an OpenAI-compatible endpoint, one prompt at a time: what judge `llm` uses."""

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import openai

from policies import PolicyError
from policies.teacher.images import ImageFile, data_url

KEY_VARIABLE = "OPENAI_API_KEY"
LOOPBACK_KEY = "loopback"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_EDGE = 1024
ATTEMPTS = 6
REFUSED_AT_START = 20
"""Requests refused before any was answered: then it is the settings, not the question."""


def is_loopback(base_url: str) -> bool:
    """Whether an endpoint is on this machine."""
    return urlsplit(base_url).hostname in LOOPBACK


class Chat:
    """One endpoint and model, greedy. Safe to use from several threads.

    The key comes from the environment; a server on loopback needs none.
    """

    def __init__(self, base_url: str, model: str, max_tokens: int, timeout_s: float) -> None:
        loopback = is_loopback(base_url)
        key = os.environ.get(KEY_VARIABLE) or (LOOPBACK_KEY if loopback else None)
        if not key:
            raise PolicyError(f"{KEY_VARIABLE} is not set; judge 'llm' needs it for {base_url}")
        self.base_url, self.model, self.max_tokens = base_url, model, max_tokens
        self._answered = self._refused = 0
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=key,
            timeout=timeout_s,
            max_retries=ATTEMPTS - 1,
            http_client=openai.DefaultHttpxClient(trust_env=False) if loopback else None,
        )

    def ask(self, prompt: str, images: Sequence[ImageFile] = ()) -> str:
        """The reply's text, "" for a refusal. Raises PolicyError where the endpoint cannot be asked.

        The client retries what may pass (connection, 408, 409, 429, 5xx) with growing pauses.
        """
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(image, LONGEST_EDGE)}} for image in images
        ]
        content.append({"type": "text", "text": prompt.encode("utf-8", "replace").decode("utf-8")})
        try:
            completion: Any = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": content}],  # type: ignore[misc, list-item]
                temperature=0.0,
                max_tokens=self.max_tokens,
            )
            answer: str = completion.choices[0].message.content or ""
            self._answered += 1
            return answer
        except openai.BadRequestError as error:
            self._refused += 1
            if self._refused >= REFUSED_AT_START and not self._answered:
                raise PolicyError(
                    f"judge 'llm' at {self.base_url} refuses every request (400); see judging.model and"
                    " judging.max_tokens, and whether that model takes images"
                ) from error
            return ""
        except openai.APIStatusError as error:
            raise PolicyError(
                f"judge 'llm' at {self.base_url} answered {error.status_code}; see judging.model and {KEY_VARIABLE}"
            ) from error
        except (openai.APIError, AttributeError, IndexError, TypeError) as error:
            raise PolicyError(
                f"judge 'llm' at {self.base_url} does not answer as an OpenAI-compatible server"
                f" ({type(error).__name__}); see judging.base_url"
            ) from error
