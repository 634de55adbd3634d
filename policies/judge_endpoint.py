"""The client of judge `llm`: one prompt at a time to an OpenAI-compatible endpoint."""

import os
from collections.abc import Sequence
from typing import Any

import openai

from policies import PolicyError
from policies.limited_answers import LimitedClient, is_too_long, most_response_bytes
from policies.loopback import LOOPBACK_KEY, is_loopback
from policies.redirects import refused_redirect
from policies.teacher.completion import MalformedCompletion, parse_completion, read_completion
from policies.teacher.image_parts import ImageFile, data_url

KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST_EDGE = 1024
ATTEMPTS = 6
MAX_REJECTED_AT_START = 20
"""So many requests rejected before the first answer mean wrong settings, not odd questions."""


class JudgeEndpoint:
    """One endpoint and model, asked with temperature 0. Safe to use from several threads.

    The key comes from the environment; a server on loopback needs none.
    """

    def __init__(self, base_url: str, model: str, max_tokens: int, timeout_s: float) -> None:
        loopback = is_loopback(base_url)
        key = os.environ.get(KEY_VARIABLE) or (LOOPBACK_KEY if loopback else None)
        if not key:
            raise PolicyError(f"{KEY_VARIABLE} is not set; judge 'llm' needs it for {base_url}")
        self.base_url, self.model, self.max_tokens = base_url, model, max_tokens
        self._answered = self._rejected = 0
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=key,
            timeout=timeout_s,
            max_retries=ATTEMPTS - 1,
            http_client=LimitedClient(most_response_bytes(max_tokens), trust_env=not loopback, follow_redirects=False),
        )

    def ask(self, prompt: str, images: Sequence[ImageFile] = ()) -> str:
        """The answer's text; "" where the server rejects the request (400), or gives no text or far too much.

        So is an answer that is no chat completion, once another was one.

        The client retries what may pass (connection, 408, 409, 429, 5xx) with growing pauses.
        Raises PolicyError where the endpoint cannot be asked.
        """
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(image, LONGEST_EDGE)}} for image in images
        ]
        content.append({"type": "text", "text": prompt.encode("utf-8", "replace").decode("utf-8")})
        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "user", "content": content}],  # type: ignore[misc, list-item]
                temperature=0.0,
                max_tokens=self.max_tokens,
            )
            if is_too_long(response.http_response):
                answer = ""
            else:
                answer = read_completion(parse_completion(response.content), 0).text
            self._answered += 1
            return answer
        except openai.BadRequestError as error:
            self._rejected += 1
            if self._rejected >= MAX_REJECTED_AT_START and not self._answered:
                raise PolicyError(
                    f"judge 'llm' at {self.base_url} refuses every request (400); see judging.model and"
                    " judging.max_tokens, and whether that model takes images"
                ) from error
            return ""
        except openai.APIStatusError as error:
            if (redirect := refused_redirect(error.response)) is not None:
                raise PolicyError(
                    f"judge 'llm' at {self.base_url} answered {redirect}: give the endpoint's own address as"
                    " judging.base_url"
                ) from None
            raise PolicyError(
                f"judge 'llm' at {self.base_url} answered {error.status_code}; see judging.model and {KEY_VARIABLE}"
            ) from error
        except (openai.APIError, MalformedCompletion) as error:
            if isinstance(error, MalformedCompletion) and self._answered:
                return ""  # one odd answer among others
            raise PolicyError(
                f"judge 'llm' at {self.base_url} does not answer as an OpenAI-compatible server"
                f" ({type(error).__name__}); see judging.base_url"
            ) from error
