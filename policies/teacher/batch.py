"""The teacher through the Batch API: half the price, answers within a day.

A batch is identified by the key in its metadata, so one that was created just before a kill is
found again and not paid twice.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal

import httpx2
import openai

from policies.redirects import refused_redirect
from policies.teacher.client import Teacher
from policies.teacher.completion import MAX_DETAIL_CHARS, MalformedCompletion, TeacherReply
from policies.teacher.errors import TeacherError, TeacherOutage
from policies.teacher.replies import KEY_REFUSED_STATUSES, REJECTED_STATUSES
from policies.teacher.request import TeacherRequest, TeacherSettings, request_body, request_tokens

MAX_REQUESTS = 50_000
MAX_BYTES = 190_000_000
"""OpenAI's limits: 50,000 requests and 200 MB per file."""

METADATA_KEY = "ratchet"
ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
FINAL_STATUSES = ("completed", "failed", "expired", "cancelled")
CONTROL_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Batch:
    """A batch as the server describes it.

    `done` counts its finished items, `files` are the ids of its output and error files, `reason` explains a failure.
    """

    id: str
    status: str
    done: int = 0
    files: tuple[str, ...] = ()
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether the server has finished with it."""
        return self.status in FINAL_STATUSES


class BatchClient:
    """The files and batches endpoints of a teacher's server."""

    def __init__(self, teacher: Teacher) -> None:
        settings = teacher.settings
        self._base_url = settings.base_url
        self._replies = teacher.replies
        self._client = teacher.control_client(timeout_s=max(CONTROL_TIMEOUT_S, settings.timeout_s))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def find(self, key: str) -> Batch | None:
        """The batch that was created with this key, if any."""
        with self._errors():
            for batch in self._client.batches.list(limit=100):
                if (batch.metadata or {}).get(METADATA_KEY) == key:
                    return _read_batch(batch, self._replies.redact)
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
        return _read_batch(created, self._replies.redact)

    def poll(self, id_: str) -> Batch:
        """The batch's present state; a batch that the server no longer knows counts as failed."""
        with self._errors():
            try:
                return _read_batch(self._client.batches.retrieve(id_), self._replies.redact)
            except openai.NotFoundError:
                return Batch(id_, "failed", reason="the server does not know it any more")

    def replies(self, batch: Batch, prompt_tokens: Mapping[str, int]) -> Iterator[tuple[str, TeacherReply]]:
        """(request key, reply) of every item in the batch's files, each key once.

        `prompt_tokens` has the estimated prompt tokens of each request by its key; other keys are left out.
        """
        seen: set[str] = set()
        for file in batch.files:
            with self._errors(), self._client.files.with_streaming_response.content(file) as response:
                for line in response.iter_lines():
                    item = _parse_item(line)
                    key = item.get("custom_id")
                    if isinstance(key, str) and key in prompt_tokens and key not in seen:
                        seen.add(key)
                        yield key, self._read_item(item, prompt_tokens[key])

    def _read_item(self, item: dict[str, Any], prompt_tokens: int) -> TeacherReply:
        response, error = item.get("response"), item.get("error")
        if not isinstance(response, dict):
            reason = error.get("code") or error.get("message") if isinstance(error, dict) else None
            return TeacherReply(
                "failed", detail=self._replies.redact(f"batch: {reason or 'no answer'}")[:MAX_DETAIL_CHARS]
            )
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            try:
                return self._replies.read(body, prompt_tokens, batch=True)
            except MalformedCompletion as fault:
                return TeacherReply("failed", detail=f"malformed: {fault}")
        detail = self._replies.describe_error(status, body)
        return TeacherReply("rejected" if status in REJECTED_STATUSES else "failed", detail=detail)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise TeacherOutage or TeacherError instead of the client library's exceptions."""
        url = self._base_url
        try:
            yield
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            raise TeacherOutage(f"teacher unreachable at {url}; run again later, the batch is kept") from error
        except openai.APIStatusError as error:
            if (redirect := refused_redirect(error.response)) is not None:
                raise TeacherError(
                    f"teacher at {url} answered {redirect}: give the endpoint's own address as teacher.base_url"
                ) from None
            if error.status_code in KEY_REFUSED_STATUSES:
                raise self._replies.key_refused(error.status_code) from None
            detail = self._replies.describe_error(error.status_code, {"error": error.body})
            if error.status_code == 429 or error.status_code >= 500:
                raise TeacherOutage(f"teacher at {url} is down ({detail}); run again later") from None
            raise TeacherError(
                f"teacher at {url} does not take batches ({detail}); set teacher.mode = 'live'"
            ) from None


def write_input(
    settings: TeacherSettings,
    requests: Iterator[TeacherRequest],
    admit: Callable[[TeacherRequest, int], bool],
    max_requests: int = MAX_REQUESTS,
) -> tuple[IO[bytes], dict[str, int]]:
    """One batch's input in a temporary file, and the estimated prompt tokens of each request in it by key.

    Stops at the server's limits, or if `admit` returns false for a request and its prompt tokens; that request is
    left out. The caller closes the file.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller uploads and closes it
    taken: dict[str, int] = {}
    size = 0
    for request in requests:
        prompt_tokens = request_tokens(settings, request)
        if not admit(request, prompt_tokens):
            break
        body = request_body(settings, request)
        line = {"custom_id": request.key, "method": "POST", "url": ENDPOINT, "body": body}
        size += file.write(json.dumps(line).encode() + b"\n")
        taken[request.key] = prompt_tokens
        if len(taken) >= max_requests or size >= MAX_BYTES:
            break
    return file, taken


def _read_batch(batch: Any, redact: Callable[[str], str]) -> Batch:
    counts, errors = batch.request_counts, batch.errors
    messages = [str(error.message) for error in (errors.data or [])] if errors else []
    return Batch(
        id=batch.id,
        status=batch.status,
        done=(counts.completed + counts.failed) if counts else 0,
        files=tuple(file for file in (batch.output_file_id, batch.error_file_id) if file),
        reason=redact("; ".join(messages))[:MAX_DETAIL_CHARS],
    )


def _parse_item(line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return item if isinstance(item, dict) else {}
