"""Phase `judge`: gives every sample of the round a verdict, then counts the votes of each question."""

from typing import Any

from judges import find_judge
from judges.verdict import ANSWERED, read
from judges.vote import Vote, vote
from loop.context import Context
from loop.evaluation.judge_chains import ChainToJudge, JudgeResult, as_columns, judge_chains
from loop.evaluation.vote_verdicts import by_vote
from store.questions import Question, questions_by_id, questions_without_vote
from store.rounds import Round
from store.samples import (
    NewVerdict,
    NewVote,
    add_verdicts,
    add_votes,
    count_unjudged_samples,
    samples_of_question,
    unjudged_samples,
)

ASKED_BATCHES = 4
"""With judge `llm`, a commit holds this many times `judging.concurrency` verdicts, because requests are slow."""
VOTES = 200


def judge(ctx: Context, round_: Round) -> None:
    """Judge in batches, one transaction each; questions without an accepted answer are judged by vote."""
    last, right = 0, 0
    size = ctx.batch_sizes.verdicts
    if ctx.config.judging.base_url is not None:
        size = ASKED_BATCHES * ctx.config.judging.concurrency
    unjudged = count_unjudged_samples(ctx.store, round_.number)
    with ctx.reporter.bar(f"round {round_.number}: judging", unjudged, "chain") as bar:
        while rows := unjudged_samples(ctx.store, round_.number, last, size):
            questions = questions_by_id(ctx.store, {row["question"] for row in rows})
            judged = judge_chains(ctx, [_chain(row, questions[row["question"]]) for row in rows])
            with ctx.store.transaction():
                add_verdicts(ctx.store, [_verdict(row["id"], each) for row, each in zip(rows, judged, strict=True)])
            last = rows[-1]["id"]
            right += sum(each.verdict.outcome == "correct" for each in judged)
            bar.update(len(rows))
            bar.note(pass_rate=f"{100 * right / bar.n:.1f} %")
            ctx.check_stop()
    while waiting := questions_without_vote(ctx.store, round_.number, VOTES):
        counted = [_count(ctx, round_.number, question) for question in waiting]
        with ctx.store.transaction():
            add_votes(ctx.store, [new_vote for new_vote, _ in counted])
            add_verdicts(ctx.store, [verdict for _, verdicts in counted for verdict in verdicts])
        ctx.check_stop()


def _count(ctx: Context, number: int, question: Question) -> tuple[NewVote, list[NewVerdict]]:
    """The vote of one question's samples, and their verdicts if no accepted answer decides."""
    rule = find_judge(question.judge)
    rows = samples_of_question(ctx.store, number, question.id)

    def same(left: str, right: str) -> bool:
        return rule.same(left, right, question.choices)

    if question.answers:
        outcomes = {row["extracted"]: row["outcome"] for row in rows if row["outcome"] in ANSWERED}
        counted = vote([row["extracted"] if row["outcome"] in ANSWERED else None for row in rows], same)
        return _new_vote(number, question, counted, outcomes.get(counted.winner, "unparsable")), []
    readings = [read(rule, _chain(row, question).output) for row in rows]
    counted = vote([None if settled else extracted for extracted, _, settled in readings], same)
    verdicts = [
        _verdict(row["id"], JudgeResult(f"vote({rule.name})", rule.version, verdict))
        for row, verdict in zip(rows, by_vote(counted, readings), strict=True)
    ]
    return _new_vote(number, question, counted, None), verdicts


def _chain(row: Any, question: Question) -> ChainToJudge:
    return ChainToJudge(question, row["text"], row["style"], row["finish_reason"])


def _verdict(sample: int, judged: JudgeResult) -> NewVerdict:
    return NewVerdict(sample, *as_columns(judged))


def _new_vote(number: int, question: Question, counted: Vote, outcome: str | None) -> NewVote:
    return NewVote(number, question.id, counted.winner, counted.samples, counted.share, counted.margin, outcome)
