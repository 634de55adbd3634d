"""Asking the teacher: what was answered before is not asked again, every answer is committed at once.

Used by the cold start and by the fallback, and by nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from loop.config.teacher import TeacherConfig
from loop.evaluation.image_file import image_file
from loop.reporting import Reporter
from loop.teaching.tasks import Task
from policies import PolicyError
from policies.teacher.budget import Budget, Limit
from policies.teacher.client import Teacher
from policies.teacher.completion import TeacherReply
from policies.teacher.request import TeacherRequest, request_hash
from store import Store
from store.teacher_calls import TeacherCall, add_calls, add_prompts, call_status, open_batches, prompt_hash, spent


@dataclass(frozen=True)
class Asker:
    """The teacher with what every answer is recorded under."""

    store: Store
    teacher: Teacher
    config: TeacherConfig
    reporter: Reporter
    round: int
    purpose: str
    stopping: Callable[[], bool]

    def key(self, task: Task) -> str:
        """The hash that the task's request is kept under."""
        return request_hash(self.teacher.settings, task.prompt, task.question.images)

    def call(self, task: Task) -> TeacherCall:
        """The task's row as it stands before the request is made."""
        return TeacherCall(
            hash=self.key(task),
            purpose=self.purpose,
            round=self.round,
            question=task.question.id,
            model=self.teacher.settings.model,
            prompt=prompt_hash(task.template.text),
            status="pending",
            attempts=0,
        )

    def request(self, task: Task) -> TeacherRequest:
        """The task's request with its images' bytes."""
        return TeacherRequest(
            self.key(task), task.prompt, tuple(image_file(self.store, image) for image in task.question.images)
        )

    def missing(self, tasks: Sequence[Task]) -> dict[str, Task]:
        """One task a request that was never made, or never answered; their prompts are kept first."""
        add_prompts(self.store, {(task.template.name, task.template.text) for task in tasks})
        by_key = {self.key(task): task for task in tasks}
        return {key: task for key, task in by_key.items() if call_status(self.store, key) in (None, "failed")}

    def say_if_spent(self, budget: Budget) -> None:
        """Tell the user which limit ended the asking, if one did."""
        if budget.spent is not None and not self.stopping():
            limit = getattr(self.config, budget.spent)
            self.reporter.say(
                f"  the teacher's budget is spent (teacher.{budget.spent} = {limit});"
                " the loop goes on without the teacher"
            )


def ask(asker: Asker, tasks: Sequence[Task]) -> Iterator[list[TeacherCall]]:
    """Ask what is missing; yields what came of it, each group once it is committed.

    Raises TeacherOutage and PolicyError as `Teacher.ask_all` does, with every answer kept.
    """
    if waiting := open_batches(asker.store):
        raise PolicyError(
            f"{len(waiting)} batches of requests to the teacher are open;"
            " set teacher.mode = 'batch' until they are fetched"
        )
    missing = asker.missing(tasks)
    budget = budget_left(asker.store, asker.config, asker.round)
    requests = (asker.request(task) for task in missing.values())
    for group in asker.teacher.ask_all(requests, asker.stopping, budget):
        calls = [answered(asker.call(missing[request.key]), reply) for request, reply in group]
        with asker.store.transaction():
            add_calls(asker.store, calls)
        yield calls
    asker.say_if_spent(budget)


def answered(call: TeacherCall, reply: TeacherReply) -> TeacherCall:
    """The call's row with what became of it."""
    return replace(
        call,
        status=reply.status,
        text=reply.text,
        finish_reason=reply.finish_reason,
        detail=reply.detail,
        prompt_tokens=reply.usage.prompt,
        cached_tokens=reply.usage.cached,
        completion_tokens=reply.usage.completion,
        usage="reported" if reply.usage_reported else "estimated",
        cost_usd=reply.cost_usd,
        attempts=reply.attempts,
    )


def budget_left(store: Store, config: TeacherConfig, number: int) -> Budget:
    """What the run and the round may still spend. The cold start has the run's limits only."""
    limits = []
    for prefix, scope in (("", None), ("round_", number)):
        if scope == 0:
            continue
        requests, usd = spent(store, scope)
        for name, used, per_request in (("budget_usd", usd, False), ("max_requests", requests, True)):
            limit = getattr(config, prefix + name)
            if limit is not None:
                limits.append(Limit(prefix + name, limit - used, per_request))
    return Budget(limits)
