"""Asks the teacher request by request; an answered request is not made again, each reply is committed at once."""

from collections.abc import Iterator, Sequence

from loop.teaching.tasks import TeacherTask
from loop.teaching.teacher_session import TeacherSession, with_reply
from policies.teacher.errors import TeacherError
from store.teacher.calls import TeacherCall, add_calls, open_batches


def ask_live(session: TeacherSession, tasks: Sequence[TeacherTask]) -> Iterator[list[TeacherCall]]:
    """Ask every task without an answer; yields the calls in groups, each once it is committed.

    Raises TeacherOutage and TeacherError as `Teacher.ask_all` does, with every answer kept; also
    TeacherError while batches are open.
    """
    if waiting := open_batches(session.store):
        raise TeacherError(
            f"{len(waiting)} batches of requests to the teacher are open;"
            " set teacher.mode = 'batch' until they are fetched"
        )
    unanswered = session.unanswered(tasks)
    budget = session.remaining_budget()
    requests = (session.request(task) for task in unanswered.values())
    for group in session.teacher.ask_all(requests, session.stopping, budget, session.reporter.say):
        calls = [with_reply(session.pending_call(unanswered[request.key]), reply) for request, reply in group]
        with session.store.transaction():
            add_calls(session.store, calls)
        yield calls
    session.report_exhausted(budget)
