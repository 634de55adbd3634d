"""Asks the teacher through the Batch API, over several sessions if necessary.

A batch is recorded as planned before it is sent, gets the server's id when the server has accepted it, and is
finished when every item has an outcome.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from uuid import uuid4

from loop.teaching.tasks import TeacherTask
from loop.teaching.teacher_session import TeacherSession, with_reply
from policies.teacher.batch import MAX_REQUESTS, Batch, BatchClient, write_input
from policies.teacher.budget import Budget
from policies.teacher.errors import TeacherError, TeacherOutage
from policies.teacher.request import TeacherRequest, max_cost_usd
from store.teacher.calls import (
    StoredBatch,
    TeacherCall,
    add_calls,
    drop_batch,
    finish_batch,
    name_batch,
    open_batches,
    pending_calls,
    plan_batch,
)

STOP_CHECK_S = 0.2
"""Seconds between two checks of `stopping` while waiting for the server."""


@dataclass(frozen=True)
class BatchLimits:
    """Most requests per batch, and most items per commit."""

    max_requests: int = MAX_REQUESTS
    commit_items: int = 200


DEFAULT_LIMITS = BatchLimits()


def ask_batch(
    session: TeacherSession, tasks: Sequence[TeacherTask], limits: BatchLimits = DEFAULT_LIMITS
) -> Iterator[list[TeacherCall]]:
    """As `ask_live`, through batches: settle unnamed batches, send unanswered tasks, wait, fetch.

    Ends early, with everything kept, if the user wants to stop; the next session continues to wait.
    Raises TeacherOutage if batches ended without any answer, TeacherError if the server takes no batches.
    """
    client = BatchClient(session.teacher)
    try:
        _settle_unnamed(session, client)
        budget = session.remaining_budget()
        _send(session, client, tasks, budget, limits.max_requests)
        any_fetched, fault = False, ""
        for stored, batch in _wait(session, client):
            for calls in _fetch(session, client, stored, batch, limits.commit_items):
                any_fetched = True
                yield calls
            if batch.status != "completed":
                fault = f"{batch.status}{batch.reason and ': '}{batch.reason}"
                session.reporter.say(f"  batch {batch.id} is {fault}")
        session.report_exhausted(budget)
        if fault and not any_fetched:
            raise TeacherOutage(f"the teacher's batch is {fault}; run again to send what is missing once more")
    finally:
        client.close()


def _settle_unnamed(session: TeacherSession, client: BatchClient) -> None:
    """Name or drop every planned batch without the server's id: it was sent just before a kill, or never."""
    for stored in open_batches(session.store):
        if stored.id is None:
            found = client.find(stored.key)
            if found is None:
                drop_batch(session.store, stored.key)
            else:
                name_batch(session.store, stored.key, found.id)


def _send(
    session: TeacherSession, client: BatchClient, tasks: Sequence[TeacherTask], budget: Budget, max_requests: int
) -> None:
    """Send the unanswered tasks that the budget allows, beside what open batches may still cost."""
    settings = session.teacher.settings
    for stored in open_batches(session.store):
        for call in pending_calls(session.store, stored.key):
            budget.reserve(max_cost_usd(settings, call.prompt_tokens, batch=True))
    budget.exhausted = None
    unanswered = session.unanswered(tasks)
    requests = (session.request(task) for task in unanswered.values())

    def admit(_: TeacherRequest, prompt_tokens: int) -> bool:
        return not session.stopping() and budget.reserve(max_cost_usd(settings, prompt_tokens, batch=True))

    while True:
        file, taken = write_input(settings, requests, admit, max_requests)
        with file:
            if not taken:
                return
            plan = StoredBatch(uuid4().hex, session.round, session.purpose, None)
            calls = [
                replace(session.pending_call(unanswered[key]), prompt_tokens=tokens, batch=plan.key)
                for key, tokens in taken.items()
            ]
            plan_batch(session.store, plan, calls)
            try:
                sent = client.submit(plan.key, file)
            except TeacherOutage:
                raise
            except TeacherError:
                drop_batch(session.store, plan.key)
                raise
            name_batch(session.store, plan.key, sent.id)
        session.reporter.say(
            f"  {len(taken)} requests sent as a batch; the answers may take a day (Ctrl-C, and run again to continue)"
        )


def _wait(session: TeacherSession, client: BatchClient) -> Iterator[tuple[StoredBatch, Batch]]:
    """The open batches, each once it has ended."""
    waiting = [stored for stored in open_batches(session.store) if stored.id is not None]
    total = sum(len(pending_calls(session.store, stored.key)) for stored in waiting)
    done: dict[str, int] = {}
    with session.reporter.bar("waiting for the teacher's batches", total, "request") as bar:
        while waiting and not session.stopping():
            for stored in list(waiting):
                assert stored.id is not None
                batch = client.poll(stored.id)
                done[stored.key] = batch.done
                bar.update(sum(done.values()) - bar.n)
                if batch.ended:
                    waiting.remove(stored)
                    yield stored, batch
            if waiting:
                _sleep_until_next_poll(session)


def _sleep_until_next_poll(session: TeacherSession) -> None:
    """Sleep `teacher.batch_poll_s` seconds, less if the user wants to stop."""
    until = time.monotonic() + session.config.batch_poll_s
    while not session.stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, STOP_CHECK_S))


def _fetch(
    session: TeacherSession, client: BatchClient, stored: StoredBatch, batch: Batch, commit_items: int
) -> Iterator[list[TeacherCall]]:
    """Commit a batch's items in groups; items without an answer have failed."""
    pending = {call.hash: call for call in pending_calls(session.store, stored.key)}
    replies = client.replies(batch, {key: call.prompt_tokens for key, call in pending.items()})
    while group := list(islice(replies, commit_items)):
        calls = [with_reply(pending[key], reply) for key, reply in group]
        with session.store.transaction():
            add_calls(session.store, calls)
        yield calls
    finish_batch(session.store, stored.key, f"batch: {batch.reason or batch.status}")
