"""Phase `judge`: a verdict for every sample of the round that has none, then the vote of each question."""

from typing import Any

from judges import find_judge
from judges.verdict import ANSWERED, read
from judges.vote import Vote, vote
from loop.context import Context
from loop.evaluation.judge_chains import Judged, JudgedChain, as_columns, judge_chains
from loop.evaluation.vote_verdicts import by_vote
from store.questions import Question, find_questions
from store.rounds import Round
from store.samples import NewVerdict, add_verdicts

ASKED_BATCHES = 4
"""Where judge `llm` is asked, a commit holds so many times `judging.concurrency` verdicts: they take their time."""
VOTES = 200

UNJUDGED = """
SELECT sample.id, sample.question, sample.text, sample.style, sample.finish_reason
FROM sample JOIN question ON question.id = sample.question
WHERE sample.round = ? AND sample.id > ? AND question.answers != '[]'
  AND NOT EXISTS (SELECT 1 FROM verdict WHERE verdict.sample = sample.id)
ORDER BY sample.id LIMIT ?"""

UNCOUNTED = """id IN (SELECT question FROM round_question WHERE round = ?)
AND id NOT IN (SELECT question FROM vote WHERE round = ?) ORDER BY id LIMIT ?"""

BALLOTS = """
SELECT sample.id, sample.question, sample.text, sample.style, sample.finish_reason, verdict.extracted, verdict.outcome
FROM sample LEFT JOIN verdict ON verdict.sample = sample.id
WHERE sample.round = ? AND sample.author = 'policy' AND sample.question = ? ORDER BY sample."index" """


def judge(ctx: Context, state: Round) -> None:
    """Judge in batches, one transaction each; questions without an accepted answer by their vote."""
    last, right = 0, 0
    size = ctx.batch_sizes.verdicts
    if ctx.config.judging.base_url is not None:
        size = ASKED_BATCHES * ctx.config.judging.concurrency
    unjudged = ctx.store.value(f"SELECT count(*) FROM ({UNJUDGED})", state.number, last, -1)
    with ctx.reporter.bar(f"round {state.number}: judging", unjudged, "chain") as bar:
        while rows := ctx.store.rows(UNJUDGED, state.number, last, size):
            wanted = ",".join(str(number) for number in {row["question"] for row in rows})
            questions = {question.id: question for question in find_questions(ctx.store, f"id IN ({wanted})")}
            judged = judge_chains(ctx, [_chain(row, questions[row["question"]]) for row in rows])
            with ctx.store.transaction():
                add_verdicts(ctx.store, [_verdict(row["id"], each) for row, each in zip(rows, judged, strict=True)])
            last = rows[-1]["id"]
            right += sum(each.verdict.outcome == "correct" for each in judged)
            bar.update(len(rows))
            bar.note(pass_rate=f"{100 * right / bar.n:.1f} %")
            ctx.check_stop()
    while waiting := find_questions(ctx.store, UNCOUNTED, state.number, state.number, VOTES):
        counted = [_count(ctx, state.number, question) for question in waiting]
        with ctx.store.transaction():
            for row, verdicts in counted:
                ctx.store.connection.execute(
                    "INSERT INTO vote (round, question, answer, samples, share, margin, outcome)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
                add_verdicts(ctx.store, verdicts)
        ctx.check_stop()


def _count(ctx: Context, number: int, question: Question) -> tuple[tuple[object, ...], list[NewVerdict]]:
    """The vote of one question's samples, and their verdicts where nothing else decides."""
    rule = find_judge(question.judge)
    rows = ctx.store.rows(BALLOTS, number, question.id)

    def same(left: str, right: str) -> bool:
        return rule.same(left, right, question.choices)

    if question.answers:
        outcomes = {row["extracted"]: row["outcome"] for row in rows if row["outcome"] in ANSWERED}
        counted = vote([row["extracted"] if row["outcome"] in ANSWERED else None for row in rows], same)
        return _row(number, question, counted, outcomes.get(counted.winner, "unparsable")), []
    readings = [read(rule, _chain(row, question).output) for row in rows]
    counted = vote([None if settled else extracted for extracted, _, settled in readings], same)
    verdicts = [
        _verdict(row["id"], Judged(f"vote({rule.name})", rule.version, verdict))
        for row, verdict in zip(rows, by_vote(counted, readings), strict=True)
    ]
    return _row(number, question, counted, None), verdicts


def _chain(row: Any, question: Question) -> JudgedChain:
    return JudgedChain(question, row["text"], row["style"], row["finish_reason"])


def _verdict(sample: int, judged: Judged) -> NewVerdict:
    return NewVerdict(sample, *as_columns(judged))


def _row(number: int, question: Question, counted: Vote, outcome: str | None) -> tuple[object, ...]:
    return number, question.id, counted.winner, counted.samples, counted.share, counted.margin, outcome
