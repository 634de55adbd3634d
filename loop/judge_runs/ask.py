"""Asks a judge run: each request once, in the running engine, after a swap to the judge's weights."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from judges import Output, find_judge
from judges.verdict import read
from loop.context import Context
from loop.errors import LoopError
from loop.evaluation.commit_groups import commit_groups
from loop.judge_runs.judge_run import JudgeRun
from loop.questions.preferences import JUDGE
from loop.swap_and_prove import serve_weights
from policies.encoding import Prompt
from policies.sampler import Request
from store.judge_calls import JudgeCall, add_judge_calls, judge_calls
from store.questions import Question

REFUSED = "refused"
"""The finish reason of a request that the sampler did not take."""


@dataclass(frozen=True)
class Match:
    """Two texts that answer one question."""

    question: Question
    first: str
    second: str


@dataclass(frozen=True)
class JudgeRequest:
    """One prompt for the judge, about a question of this run."""

    question: int
    prompt: Prompt

    @property
    def hash(self) -> str:
        """The request's identity: the sha256 of the prompt with its images."""
        return hashlib.sha256(json.dumps([self.prompt.text, *self.prompt.images]).encode()).hexdigest()


def shares_of_first(ctx: Context, judge: JudgeRun, matches: Sequence[Match], what: str) -> list[float]:
    """For each match the first text's share of both verdicts: 1, 0.5 or 0.

    Both orders are asked, greedily.
    """
    requests = [
        JudgeRequest(match.question.id, judge.prompt(match.question, *texts))
        for match in matches
        for texts in ((match.first, match.second), (match.second, match.first))
    ]
    verdicts = [read_verdict(judge.style, call.text, call.finish_reason) for call in ask(ctx, judge, requests, what)]
    return [share_of_first(*both) for both in zip(verdicts[::2], verdicts[1::2], strict=True)]


def share_of_first(verdict: str | None, swapped: str | None) -> float:
    """The first text's share of two verdicts; the second verdict is for the opposite order.

    If the judge names the same place in both, the share is a half; an unreadable verdict (None) counts half
    (Pref-GRPO, arXiv 2508.20751).
    """
    points = [0.5 if given is None else float(given == wins) for given, wins in ((verdict, "1"), (swapped, "2"))]
    return sum(points) / 2


def ask(ctx: Context, judge: JudgeRun, requests: Sequence[JudgeRequest], what: str) -> list[JudgeCall]:
    """The judge's output for every request; stored ones are reused, new ones committed as they arrive.

    A request that the sampler refuses has the output "", which contains no verdict. Raises LoopError if it refuses all.
    """
    by_hash = {request.hash: request for request in requests}
    known = judge_calls(ctx.store, judge.sha256, list(by_hash))
    missing = {key: request for key, request in by_hash.items() if key not in known}
    if missing:
        sampler = serve_weights(ctx, judge.directory, judge.sha256, f"judge run {judge.run_dir}")

        def wanted() -> Iterator[Request]:
            for key, request in missing.items():
                yield Request(key, request.prompt, 0.0, judge.config.sampling.max_tokens)

        too_long: dict[str, JudgeCall] = {}

        def refused(request: Request, reason: str) -> None:
            key = str(request.key)
            too_long[key] = JudgeCall(judge.sha256, key, missing[key].question, "", REFUSED)

        with ctx.reporter.bar(what, len(by_hash), "verdict", len(known)) as bar:
            for group in commit_groups(ctx, sampler.sample(wanted(), refused), bar):
                calls = [
                    JudgeCall(judge.sha256, str(c.key), missing[str(c.key)].question, c.text, c.finish_reason)
                    for c in group
                ]
                with ctx.store.transaction():
                    add_judge_calls(ctx.store, calls)
                known.update((call.hash, call) for call in calls)
        if too_long:
            if not known:
                raise LoopError(
                    f"judge run {judge.run_dir}: the sampler takes none of its {len(too_long)} requests; raise"
                    " engine.max_model_len"
                )
            with ctx.store.transaction():
                add_judge_calls(ctx.store, list(too_long.values()))
            known.update(too_long)
            ctx.reporter.say(f"  the sampler refused {len(too_long)} requests of the judge: no verdict on those")
    return [known[request.hash] for request in requests]


def read_verdict(style: str, text: str, finish_reason: str) -> str | None:
    """ "1" or "2", as judge `preference` reads an output in a style; None if it cannot."""
    output = Output(text, (), finish_reason=finish_reason, needs_marker=style == "cot")
    extracted, _, settled = read(find_judge(JUDGE), output)
    return extracted if settled is None else None
