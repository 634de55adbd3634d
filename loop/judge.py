"""Phase `judge`: a verdict for every sample of the round that has none."""

import json

from judges import JUDGES, give_verdict
from loop.context import Context
from store.rounds import Round
from store.samples import NewVerdict, add_verdicts

BATCH = 2000

UNJUDGED = """
SELECT sample.id, sample.text, sample.style, sample.finish_reason, question.answers, question.judge
FROM sample JOIN question ON question.id = sample.question
WHERE sample.round = ? AND sample.id > ?
  AND NOT EXISTS (SELECT 1 FROM verdict WHERE verdict.sample = sample.id)
ORDER BY sample.id LIMIT ?"""


def judge(ctx: Context, state: Round) -> None:
    """Judge in batches, one transaction each."""
    last = 0
    while rows := ctx.store.rows(UNJUDGED, state.number, last, BATCH):
        verdicts = []
        for row in rows:
            rule = JUDGES[row["judge"]]
            verdict = give_verdict(
                rule,
                row["text"],
                json.loads(row["answers"]),
                finish_reason=row["finish_reason"],
                needs_marker=row["style"] == "cot",
            )
            verdicts.append(
                NewVerdict(row["id"], rule.name, rule.version, verdict.extracted, verdict.score, verdict.outcome)
            )
        with ctx.store.transaction():
            add_verdicts(ctx.store, verdicts)
        last = rows[-1]["id"]
        ctx.check_stop()
