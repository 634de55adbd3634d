"""Phase `fallback`: questions that no sample of the round solved go to the teacher, within a limit."""

from loop.context import Context
from loop.distil import distil
from store.questions import find_questions
from store.rounds import Round

UNSOLVED = """answers != '[]' AND id IN (
    SELECT sample.question FROM sample JOIN verdict ON verdict.sample = sample.id
    WHERE sample.round = ? AND sample.author = 'policy'
      AND NOT EXISTS (SELECT 1 FROM teacher_call AS earlier
                      WHERE earlier.question = sample.question AND earlier.round < sample.round)
    GROUP BY sample.question HAVING sum(verdict.outcome = 'correct') = 0
) ORDER BY hash LIMIT ?"""


def fallback(ctx: Context, state: Round) -> None:
    """Distil rationales for unsolved questions; the kept ones become chosen sides of pairs.

    The same questions however often the phase is begun: those asked in earlier rounds are left out,
    those already asked in this round are found in the store and not asked again.
    """
    limit = ctx.config.fallback.questions
    if limit and ctx.teacher is not None:
        distil(ctx, state.number, "fallback", find_questions(ctx.store, UNSOLVED, state.number, limit))
