"""Retries: which failures are temporary, how often a request is sent again, and after which delay."""

from collections.abc import Awaitable, Callable

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from policies.redirects import refused_redirect
from policies.teacher.budget import Budget
from policies.teacher.completion import TeacherReply
from policies.teacher.errors import TeacherError, TeacherOutage
from policies.teacher.rate_limit import MAX_PAUSE_S, moment_after, retry_after_s
from policies.teacher.replies import KEY_REFUSED_STATUSES, REJECTED_STATUSES, ReplyReader
from policies.teacher.request import TeacherSettings

TRANSIENT_STATUSES = (408, 409, 425, 429)
"""Statuses of temporary failures, besides those from 500 on."""

MAX_BACKOFF_S = 60.0


class TransientError(Exception):
    """A temporary error; `after_s` is the wait in seconds that the server asks for."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


def retrying(settings: TeacherSettings, budget: Budget, sleep: Callable[[float], Awaitable[None]]) -> AsyncRetrying:
    """The attempts of one request: at most `settings.attempts`, and no more than the budget allows.

    The delay between them is exponential back-off with full jitter, added to the server's own.
    """

    def has_had_enough(state: RetryCallState) -> bool:
        return state.attempt_number >= settings.attempts or not budget.add_retry()

    def backoff_s(state: RetryCallState) -> float:
        jittered = wait_random_exponential(multiplier=settings.backoff_s, max=MAX_BACKOFF_S)(state)
        error = state.outcome.exception() if state.outcome else None
        return jittered + (error.after_s if isinstance(error, TransientError) else 0.0)

    return AsyncRetrying(
        retry=retry_if_exception_type(TransientError), stop=has_had_enough, wait=backoff_s, sleep=sleep, reraise=True
    )


def read_error(error: openai.APIStatusError, settings: TeacherSettings, replies: ReplyReader) -> TeacherReply:
    """The reply of a rejected request; raises TransientError, TeacherOutage or TeacherError for other statuses."""
    status = error.status_code
    detail = replies.describe_error(status, {"error": error.body})
    if (redirect := refused_redirect(error.response)) is not None:
        raise TeacherError(
            f"teacher at {settings.base_url} answered {redirect}: give the endpoint's own address as teacher.base_url"
        ) from None
    if status in KEY_REFUSED_STATUSES:
        raise replies.key_refused(status) from None
    if status in REJECTED_STATUSES:
        return TeacherReply("rejected", detail=detail, cost_usd=0.0)
    if status == 429 and error.code == "insufficient_quota":
        raise TeacherError(
            f"the account behind {settings.api_key_env} has no credit left ({detail}); add some, then run again"
        ) from None
    if status in TRANSIENT_STATUSES or status >= 500:
        after_s = retry_after_s(error.response.headers) or 0.0
        if after_s > MAX_PAUSE_S:
            raise TeacherOutage(
                f"teacher at {settings.base_url} asks to wait {after_s:.0f} s, until {moment_after(after_s)}"
                f" ({detail}); run again then"
            ) from None
        raise TransientError(detail, after_s) from None
    raise TeacherError(
        f"teacher at {settings.base_url} answered {detail}; see teacher.base_url and teacher.model"
    ) from None
