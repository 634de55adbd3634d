"""Handles requests that the sampler refuses: their questions become unusable, and the round continues without them."""

from loop.context import Context
from loop.errors import LoopError
from policies.sampler import Request
from store.unusable import mark_refused, unusable_questions


class Refusals:
    """The `refused` of one call of `Sampler.sample`, for requests whose key begins with a question's id.

    They are recorded with the chains of the next commit. If the sampler accepts no request at all, something else is
    wrong, and no question is marked.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._waiting: dict[int, str] = {}
        self.questions: set[int] = set()
        """Every question that was refused."""

    def __call__(self, request: Request, reason: str) -> None:
        """Remember the question of a refused request."""
        assert isinstance(request.key, tuple)
        question = int(request.key[0])
        if question not in self.questions:
            self.questions.add(question)
            self._waiting[question] = f"refused by the sampler: {reason}"

    def record(self) -> None:
        """Mark the questions refused so far; the caller's transaction decides when it is committed."""
        mark_refused(self._ctx.store, self._waiting)
        for question, reason in self._waiting.items():
            self._ctx.reporter.say(f"  question {question} is unusable from now on: {reason}")
        self._waiting = {}

    def finish(self, *, taken: bool) -> None:
        """Mark the rest.

        Raises LoopError if the sampler has `taken` no request at all, unless all questions were dropped meanwhile.
        """
        if not self._waiting:
            return
        usable = self._waiting.keys() - unusable_questions(self._ctx.store).keys()
        if usable and not taken:
            question = min(usable)
            raise LoopError(
                f"the sampler takes none of the {len(self._waiting)} questions it is asked; question {question} was"
                f" {self._waiting[question]}; raise engine.max_model_len, or take questions out with 'drop'"
            )
        with self._ctx.store.transaction():
            self.record()
