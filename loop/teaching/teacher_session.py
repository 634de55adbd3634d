"""The teacher for one purpose of one round: open tasks, and the recording of calls and costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loop.config.teacher import TeacherConfig
from loop.evaluation.endpoint_images import image_file
from loop.reporting import Reporter
from loop.teaching.tasks import TeacherTask
from policies.teacher.budget import Budget, Limit
from policies.teacher.client import Teacher
from policies.teacher.completion import TeacherReply
from policies.teacher.request import TeacherRequest, request_hash
from store import Store
from store.teacher.calls import TeacherCall, add_prompts, call_status, prompt_hash, spent


@dataclass(frozen=True)
class TeacherSession:
    """The teacher, with the round and purpose under which its calls are recorded."""

    store: Store
    teacher: Teacher
    config: TeacherConfig
    reporter: Reporter
    round: int
    purpose: str
    stopping: Callable[[], bool]

    def request_key(self, task: TeacherTask) -> str:
        """The hash under which the task's request is stored."""
        return request_hash(self.teacher.settings, task.prompt, task.question.images)

    def pending_call(self, task: TeacherTask) -> TeacherCall:
        """The task's row before the request is made."""
        return TeacherCall(
            hash=self.request_key(task),
            purpose=self.purpose,
            round=self.round,
            question=task.question.id,
            model=self.teacher.settings.model,
            prompt=prompt_hash(task.template.text),
            status="pending",
            attempts=0,
        )

    def request(self, task: TeacherTask) -> TeacherRequest:
        """The task's request with its images' bytes."""
        images = tuple(image_file(self.store, image) for image in task.question.images)
        return TeacherRequest(self.request_key(task), task.prompt, images)

    def unanswered(self, tasks: Sequence[TeacherTask]) -> dict[str, TeacherTask]:
        """One task for each request that was never made or has failed, by its key. Stores the prompts first."""
        add_prompts(self.store, {(task.template.name, task.template.text) for task in tasks})
        by_key = {self.request_key(task): task for task in tasks}
        return {key: task for key, task in by_key.items() if call_status(self.store, key) in (None, "failed")}

    def remaining_budget(self) -> Budget:
        """The remaining budget of the run and the round. Round 0, the cold start, has the run's limits only."""
        limits = []
        for prefix, scope in (("", None), ("round_", self.round)):
            if scope == 0:
                continue
            requests, usd = spent(self.store, scope)
            for name, used, per_request in (("budget_usd", usd, False), ("max_requests", requests, True)):
                limit = getattr(self.config, prefix + name)
                if limit is not None:
                    limits.append(Limit(prefix + name, limit - used, per_request))
        return Budget(limits)

    def report_exhausted(self, budget: Budget) -> None:
        """Report the limit that ended the requests, if one did."""
        if budget.exhausted is not None and not self.stopping():
            limit = getattr(self.config, budget.exhausted)
            self.reporter.say(
                f"  the teacher's budget is spent (teacher.{budget.exhausted} = {limit});"
                " the loop continues without the teacher"
            )


def with_reply(call: TeacherCall, reply: TeacherReply) -> TeacherCall:
    """The call's row with the reply."""
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
