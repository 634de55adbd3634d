"""Asking the teacher through the Batch API, across as many sessions as it takes.

A batch is planned in the store before it is sent, named there when the server has taken it, and
finished there when every item has an outcome.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from uuid import uuid4

from loop.teaching.ask_live import Asker, answered, budget_left
from loop.teaching.tasks import Task
from policies import PolicyError
from policies.teacher.batch import Batch, BatchTeacher, write_input
from policies.teacher.budget import Budget
from policies.teacher.prices import Usage, cost_usd
from policies.teacher.request import TeacherRequest
from policies.teacher.request_pool import TeacherOutage
from store.teacher_calls import (
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

COMMIT_ITEMS = 200


def ask_batch(asker: Asker, tasks: Sequence[Task]) -> Iterator[list[TeacherCall]]:
    """As `ask`, through batches: adopt or drop what was left unsent, send what is missing, wait, fetch.

    Ends early, with everything kept, once the user wants to stop; the next session goes on waiting.
    Raises TeacherOutage when batches came to nothing.
    """
    server = BatchTeacher(asker.teacher)
    try:
        _adopt(asker, server)
        budget = budget_left(asker.store, asker.config, asker.round)
        _send(asker, server, tasks, budget)
        some, fault = False, ""
        for stored, batch in _ended(asker, server):
            for group in _fetch(asker, server, stored, batch):
                some = True
                yield group
            if batch.status != "completed":
                fault = f"{batch.status}{batch.reason and ': '}{batch.reason}"
                asker.reporter.say(f"  batch {batch.id} is {fault}")
        asker.say_if_spent(budget)
        if fault and not some:
            raise TeacherOutage(f"the teacher's batch is {fault}; run again to send what is missing once more")
    finally:
        server.close()


def _adopt(asker: Asker, server: BatchTeacher) -> None:
    """A planned batch without the server's id was sent just before a kill, or not at all."""
    for stored in open_batches(asker.store):
        if stored.id is None:
            found = server.find(stored.key)
            if found is None:
                drop_batch(asker.store, stored.key)
            else:
                name_batch(asker.store, stored.key, found.id)


def _send(asker: Asker, server: BatchTeacher, tasks: Sequence[Task], budget: Budget) -> None:
    for stored in open_batches(asker.store):
        for call in pending_calls(asker.store, stored.key):
            budget.admit(_most_usd(asker, call))
    budget.spent = None
    missing = asker.missing(tasks)
    requests = (asker.request(task) for task in missing.values())

    def admit(request: TeacherRequest) -> bool:
        return not asker.stopping() and budget.admit(asker.teacher.most_usd(request, batch=True))

    while True:
        file, taken = write_input(asker.teacher, requests, admit)
        with file:
            if not taken:
                return
            plan = StoredBatch(uuid4().hex, asker.round, asker.purpose, None)
            calls = [
                replace(asker.call(missing[key]), prompt_tokens=tokens, batch=plan.key) for key, tokens in taken.items()
            ]
            plan_batch(asker.store, plan, calls)
            try:
                sent = server.submit(plan.key, file)
            except TeacherOutage:
                raise
            except PolicyError:
                drop_batch(asker.store, plan.key)
                raise
            name_batch(asker.store, plan.key, sent.id)
        asker.reporter.say(
            f"  {len(taken)} requests sent as a batch; the answers may take a day (Ctrl-C, and run again to go on)"
        )


def _most_usd(asker: Asker, call: TeacherCall) -> float:
    settings = asker.teacher.settings
    usage = Usage(call.prompt_tokens, 0, settings.max_tokens)
    return cost_usd(settings.price, usage, batch=True) if settings.price else 0.0


def _ended(asker: Asker, server: BatchTeacher) -> Iterator[tuple[StoredBatch, Batch]]:
    """Open batches as they end."""
    waiting = [stored for stored in open_batches(asker.store) if stored.id is not None]
    total = sum(len(pending_calls(asker.store, stored.key)) for stored in waiting)
    done: dict[str, int] = {}
    with asker.reporter.bar("waiting for the teacher's batches", total, "request") as bar:
        while waiting and not asker.stopping():
            for stored in list(waiting):
                assert stored.id is not None
                batch = server.poll(stored.id)
                done[stored.key] = batch.done
                bar.update(sum(done.values()) - bar.n)
                if batch.ended:
                    waiting.remove(stored)
                    yield stored, batch
            if waiting:
                _nap(asker)


def _nap(asker: Asker) -> None:
    until = time.monotonic() + asker.config.batch_poll_s
    while not asker.stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))


def _fetch(asker: Asker, server: BatchTeacher, stored: StoredBatch, batch: Batch) -> Iterator[list[TeacherCall]]:
    """Bring a batch's items into the store; what it did not answer has failed."""
    pending = {call.hash: call for call in pending_calls(asker.store, stored.key)}
    replies = server.replies(batch, {key: call.prompt_tokens for key, call in pending.items()})
    while group := list(islice(replies, COMMIT_ITEMS)):
        calls = [answered(pending[key], reply) for key, reply in group]
        with asker.store.transaction():
            add_calls(asker.store, calls)
        yield calls
    finish_batch(asker.store, stored.key, f"batch: {batch.reason or batch.status}")
