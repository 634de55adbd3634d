"""The teacher through the Batch API: half the price, answers within a day.

A batch is found again by the key in its metadata, so one that was created just before a kill is
adopted and not paid for twice.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal

import httpx2
import openai

from policies import PolicyError
from policies.teacher.client import Teacher
from policies.teacher.completion import LONGEST_DETAIL, Malformed, TeacherReply
from policies.teacher.request import TeacherRequest, request_body, request_tokens
from policies.teacher.request_pool import KEY_REFUSED, REJECTED, TeacherOutage

MOST_REQUESTS = 50_000
MOST_BYTES = 190_000_000
"""OpenAI takes 50,000 requests and 200 MB a file."""

METADATA_KEY = "ratchet"
ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")
CONTROL_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Batch:
    """A batch as the server tells it; `reason` says why it failed."""

    id: str
    status: str
    done: int = 0
    files: tuple[str, ...] = ()
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether the server will do no more of it."""
        return self.status in ENDED


class BatchTeacher:
    """The files and batches endpoints of a teacher's server."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        settings = teacher.settings
        self._client = teacher.control_client(timeout_s=max(CONTROL_TIMEOUT_S, settings.timeout_s))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def find(self, key: str) -> Batch | None:
        """The batch that was created with this key, if there is one."""
        with self._errors():
            for batch in self._client.batches.list(limit=100):
                if (batch.metadata or {}).get(METADATA_KEY) == key:
                    return _batch(batch, self.teacher.redact)
        return None

    def submit(self, key: str, file: IO[bytes]) -> Batch:
        """Upload the requests and create the batch. The creation is never retried: see `find`."""
        with self._errors():
            file.seek(0)
            uploaded = self._client.files.create(file=(f"{key}.jsonl", file), purpose="batch")
            created = self._client.with_options(max_retries=0).batches.create(
                input_file_id=uploaded.id,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={METADATA_KEY: key},
            )
        return _batch(created, self.teacher.redact)

    def poll(self, id_: str) -> Batch:
        """How far it is; a batch that the server has forgotten counts as failed."""
        with self._errors():
            try:
                return _batch(self._client.batches.retrieve(id_), self.teacher.redact)
            except openai.NotFoundError:
                return Batch(id_, "failed", reason="the server does not know it any more")

    def replies(self, batch: Batch, prompt_tokens: Mapping[str, int]) -> Iterator[tuple[str, TeacherReply]]:
        """(request key, reply) of every item in its files that is one of `prompt_tokens`, each key once."""
        seen: set[str] = set()
        for file in batch.files:
            with self._errors(), self._client.files.with_streaming_response.content(file) as response:
                for line in response.iter_lines():
                    item = _item(line)
                    key = item.get("custom_id")
                    if isinstance(key, str) and key in prompt_tokens and key not in seen:
                        seen.add(key)
                        yield key, self._reply(item, prompt_tokens[key])

    def _reply(self, item: dict[str, Any], prompt_tokens: int) -> TeacherReply:
        response, error = item.get("response"), item.get("error")
        if not isinstance(response, dict):
            reason = error.get("code") or error.get("message") if isinstance(error, dict) else None
            return TeacherReply(
                "failed", detail=self.teacher.redact(f"batch: {reason or 'no answer'}")[:LONGEST_DETAIL]
            )
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            try:
                return self.teacher.read(body, prompt_tokens, batch=True)
            except Malformed as fault:
                return TeacherReply("failed", detail=f"malformed: {fault}")
        detail = self.teacher.reason(status, body)
        return TeacherReply("rejected" if status in REJECTED else "failed", detail=detail)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The client's exceptions in the words of this project."""
        url = self.teacher.settings.base_url
        try:
            yield
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            raise TeacherOutage(f"teacher unreachable at {url}; run again later, the batch is kept") from error
        except openai.APIStatusError as error:
            if error.status_code in KEY_REFUSED:
                raise self.teacher.key_refused(error.status_code) from None
            detail = self.teacher.reason(error.status_code, {"error": error.body})
            if error.status_code == 429 or error.status_code >= 500:
                raise TeacherOutage(f"teacher at {url} is down ({detail}); run again later") from None
            raise PolicyError(f"teacher at {url} does not take batches ({detail}); set teacher.mode = 'live'") from None


def write_input(
    teacher: Teacher, requests: Iterator[TeacherRequest], admit: Callable[[TeacherRequest], bool]
) -> tuple[IO[bytes], dict[str, int]]:
    """One batch's input in a temporary file, and the estimated prompt tokens of each request in it by key.

    Stops at the server's limits or where `admit` says no; the request it refuses is dropped.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller uploads and closes it
    taken: dict[str, int] = {}
    size = 0
    for request in requests:
        if not admit(request):
            break
        body = request_body(teacher.settings, request)
        line = {"custom_id": request.key, "method": "POST", "url": ENDPOINT, "body": body}
        size += file.write(json.dumps(line).encode() + b"\n")
        taken[request.key] = request_tokens(teacher.settings, request)
        if len(taken) >= MOST_REQUESTS or size >= MOST_BYTES:
            break
    return file, taken


def _batch(batch: Any, redact: Callable[[str], str]) -> Batch:
    counts, errors = batch.request_counts, batch.errors
    messages = [str(each.message) for each in (errors.data or [])] if errors else []
    return Batch(
        id=batch.id,
        status=batch.status,
        done=(counts.completed + counts.failed) if counts else 0,
        files=tuple(file for file in (batch.output_file_id, batch.error_file_id) if file),
        reason=redact("; ".join(messages))[:LONGEST_DETAIL],
    )


def _item(line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except ValueError:
        return {}
    return item if isinstance(item, dict) else {}
