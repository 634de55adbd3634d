"""Gives verdicts for every phase that judges: by rules in batches, or by asking a model (`llm`)."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from judges import Judge, JudgeError, Output, Verdict, find_judge, give_verdicts
from judges.llm import judge_with
from judges.verdict import make_verdict, read
from loop.context import Context
from loop.errors import InputError
from loop.evaluation.endpoint_images import image_file
from policies.judge_endpoint import JudgeEndpoint
from policies.teacher.image_parts import ImageFile
from store.database import as_json
from store.questions import Question


class ChainToJudge(NamedTuple):
    """A text to be judged, with its question, style and finish reason."""

    question: Question
    text: str
    style: str
    finish_reason: str

    @property
    def output(self) -> Output:
        """The chain as input of the judges."""
        question, needs_marker = self.question, self.style == "cot"
        return Output(self.text, question.answers, question.choices, self.finish_reason, needs_marker)


class JudgeResult(NamedTuple):
    """A verdict with the name and version of the judge that gave it."""

    judge: str
    version: str
    verdict: Verdict


def judge_chains(ctx: Context, chains: Sequence[ChainToJudge]) -> list[JudgeResult]:
    """A verdict for each chain by its question's own judge, in order."""
    by_judge: dict[str, list[int]] = defaultdict(list)
    for n, chain in enumerate(chains):
        by_judge[chain.question.judge].append(n)
    judged: dict[int, JudgeResult] = {}
    for spec, places in by_judge.items():
        judge = find_judge(spec)
        group = [chains[n] for n in places]
        if judge.rule.name == "llm":
            verdicts = _ask(ctx, judge, group)
        else:
            verdicts = give_verdicts(judge, [chain.output for chain in group])
        judged.update((n, JudgeResult(judge.name, judge.version, v)) for n, v in zip(places, verdicts, strict=True))
    return [judged[n] for n in range(len(chains))]


def as_columns(judged: JudgeResult) -> tuple[str, str, str | None, float, str, str]:
    """judge, judge_version, extracted, score, outcome, flags (a JSON list): the columns of a verdict."""
    verdict = judged.verdict
    flags = as_json(list(verdict.flags))
    return judged.judge, judged.version, verdict.extracted, verdict.score, verdict.outcome, flags


def _ask(ctx: Context, judge: Judge, chains: Sequence[ChainToJudge]) -> list[Verdict]:
    """Verdicts of judge `llm`, with several requests at once. Cases that extraction decides are not asked."""
    settings = ctx.config.judging
    if ctx.chat is None:
        if settings.base_url is None or settings.model is None:
            raise InputError("judge 'llm' needs judging.base_url and judging.model: where it is asked")
        ctx.chat = JudgeEndpoint(settings.base_url, settings.model, settings.max_tokens, settings.timeout_s)
    chat = ctx.chat

    def verdict(chain: ChainToJudge, extracted: str, flags: tuple[str, ...], images: Sequence[ImageFile]) -> Verdict:
        question = chain.question
        try:
            score: float | JudgeError = judge_with(
                lambda prompt: chat.ask(prompt, images), question.text, extracted, question.answers
            )
        except JudgeError as error:
            score = error
        return make_verdict(judge, extracted, flags, score)

    verdicts: dict[int, Verdict] = {}
    asked: list[tuple[int, ChainToJudge, str, tuple[str, ...]]] = []
    for n, chain in enumerate(chains):
        extracted, flags, settled = read(judge, chain.output)
        if settled is not None:
            verdicts[n] = settled
        else:
            assert extracted is not None
            asked.append((n, chain, extracted, flags))
    # The store's connection belongs to this thread, so images are read here, each once.
    wanted = {digest for _, chain, _, _ in asked for digest in chain.question.images}
    images = {digest: image_file(ctx.store, digest) for digest in wanted}
    with ThreadPoolExecutor(settings.concurrency) as pool:
        given = {
            n: pool.submit(verdict, chain, extracted, flags, [images[d] for d in chain.question.images])
            for n, chain, extracted, flags in asked
        }
        verdicts.update((n, each.result()) for n, each in given.items())
    return [verdicts[n] for n in range(len(chains))]
