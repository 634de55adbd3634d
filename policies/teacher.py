"""The teacher: rationales from an OpenAI-compatible endpoint (GPT-4o, or any server that speaks it)."""

import base64
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import openai
from PIL import Image
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from policies import PolicyError

KEY_VARIABLE = "OPENAI_API_KEY"
LOOPBACK_KEY = "loopback"
REFUSED = (400, 422)
"""Statuses that say this one request cannot be answered; the others may be."""

SENT_AS_THEY_ARE = ("png", "jpeg", "webp", "gif")
RETRIED = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)


@dataclass(frozen=True)
class TeacherSettings:
    """Where the teacher is and how it is asked. Its key comes from the environment only."""

    base_url: str
    model: str
    temperature: float = 0.7
    max_tokens: int = 300
    concurrency: int = 16
    attempts: int = 8
    timeout_s: float = 60.0
    longest_edge: int = 1024


@dataclass(frozen=True)
class TeacherRequest:
    """One rationale to write: the whole prompt and the image files' bytes with their format.

    `key` is its `request_hash`.
    """

    key: str
    question: int
    prompt: str
    images: tuple[tuple[bytes, str], ...]


def request_hash(settings: TeacherSettings, question: int, prompt: str, images: Sequence[str]) -> str:
    """A request's identity: question, model, parameters, prompt, image hashes. Never asked twice."""
    identity = [question, settings.model, settings.temperature, settings.max_tokens, prompt, list(images)]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


@dataclass(frozen=True)
class TeacherReply:
    """The teacher's answer with the tokens it was billed for; `text` is empty if it refused."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Teacher:
    """Asks with bounded concurrency and retries what may pass (connection, 429, 5xx)."""

    def __init__(self, settings: TeacherSettings, *, needs_key: bool) -> None:
        key = os.environ.get(KEY_VARIABLE) if needs_key else LOOPBACK_KEY
        if not key:
            raise PolicyError(f"{KEY_VARIABLE} is not set; export your key, or set teacher.enabled = false")
        self.settings = settings
        self._client = openai.OpenAI(
            base_url=settings.base_url,
            api_key=key,
            timeout=settings.timeout_s,
            max_retries=0,
            http_client=None if needs_key else openai.DefaultHttpxClient(trust_env=False),
        )

    def ask_all(
        self, requests: Iterable[TeacherRequest], stopping: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[TeacherRequest, TeacherReply]]:
        """Replies in the order they come. Raises PolicyError when the endpoint stays out of reach.

        What is in flight at an error, or once `stopping` says so, is still waited for and handed
        out: it is paid for.
        """
        waiting = iter(requests)
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            running: dict[Future[TeacherReply], TeacherRequest] = {}
            failure: PolicyError | None = None
            while True:
                while failure is None and not stopping() and len(running) < self.settings.concurrency:
                    request = next(waiting, None)
                    if request is None:
                        break
                    running[pool.submit(self._ask, request)] = request
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    request = running.pop(future)
                    try:
                        reply = future.result()
                    except PolicyError as error:
                        failure = failure or error
                        continue
                    yield request, reply
        if failure is not None:
            raise failure

    def _ask(self, request: TeacherRequest) -> TeacherReply:
        retrying = Retrying(
            retry=retry_if_exception_type(RETRIED),
            stop=stop_after_attempt(self.settings.attempts),
            wait=wait_random_exponential(multiplier=1, max=60),
            reraise=True,
        )
        try:
            return retrying(self._ask_once, request)
        except openai.AuthenticationError as error:
            raise PolicyError(f"the teacher refused the key in {KEY_VARIABLE} (401)") from error
        except openai.RateLimitError as error:
            raise PolicyError(
                f"teacher at {self.settings.base_url} goes on limiting the rate (429); lower"
                " teacher.concurrency or raise teacher.attempts, then run again"
            ) from error
        except openai.APIConnectionError as error:
            raise PolicyError(
                f"teacher unreachable at {self.settings.base_url}; start it, correct teacher.base_url,"
                " or set teacher.enabled = false"
            ) from error
        except openai.APIStatusError as error:
            if error.status_code in REFUSED:
                return TeacherReply("", f"refused ({error.status_code})", 0, 0)
            raise PolicyError(
                f"teacher at {self.settings.base_url} answered {error.status_code} for question"
                f" {request.question}; see teacher.model and teacher.max_tokens"
            ) from error
        except (openai.APIError, AttributeError, IndexError, TypeError, ValueError) as error:
            raise PolicyError(
                f"teacher at {self.settings.base_url} did not answer as an OpenAI-compatible server does"
                f" ({type(error).__name__}); see teacher.base_url"
            ) from error

    def _ask_once(self, request: TeacherRequest) -> TeacherReply:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_url(image, kind, self.settings.longest_edge)}}
            for image, kind in request.images
        ]
        content.append({"type": "text", "text": request.prompt})
        completion: Any = self._client.chat.completions.create(
            model=self.settings.model,
            messages=[{"role": "user", "content": content}],  # type: ignore[misc, list-item]
            temperature=self.settings.temperature,
            max_tokens=self.settings.max_tokens,
        )
        choice, usage = completion.choices[0], completion.usage
        return TeacherReply(
            text=choice.message.content or "",
            finish_reason=choice.finish_reason or "unknown",
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
        )


def data_url(content: bytes, kind: str, longest_edge: int) -> str:
    """An image file as a data URL: the bytes as they are, unless too large or of a rare format."""
    with Image.open(io.BytesIO(content)) as image:
        if max(image.size) > longest_edge or kind not in SENT_AS_THEY_ARE:
            image.thumbnail((longest_edge, longest_edge))
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, format="PNG")
            content, kind = buffer.getvalue(), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
