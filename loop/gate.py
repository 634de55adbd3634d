"""Phase `gate`: accept the candidate, or roll back."""

from dataclasses import dataclass

from loop.context import Context
from loop.statistics import mcnemar_p_value
from loop.swap import serve
from store.rounds import Round, decide

DISCORDANT = """
SELECT coalesce(sum(new.outcome = 'correct' AND old.outcome != 'correct'), 0) AS gained,
       coalesce(sum(new.outcome != 'correct' AND old.outcome = 'correct'), 0) AS lost
FROM evaluation AS new JOIN evaluation AS old USING (split, style, question)
WHERE new.policy = ? AND old.policy = ? AND split = ? AND style = ?"""


@dataclass(frozen=True)
class Comparison:
    """Held-out questions that candidate or serving policy alone answers right, and the test's p."""

    gained: int
    lost: int
    p_value: float


def gate(ctx: Context, state: Round) -> None:
    """Compare candidate and serving policy on the same questions, in the style that is trained."""
    if state.candidate is None:
        decide(ctx.store, state.number, "no_update", "no pair was found")
        return
    if state.number == 0:
        decide(ctx.store, 0, "accepted", "the cold start is where the rounds begin")
        return
    row = ctx.store.row(
        DISCORDANT, state.candidate, state.serving, ctx.config.evaluation.split, ctx.config.sampling.style
    )
    assert row is not None
    comparison = Comparison(row["gained"], row["lost"], mcnemar_p_value(row["gained"], row["lost"]))
    accepted = accepts(ctx.config.gate.rule, ctx.config.gate.level, comparison)
    reason = f"gained {comparison.gained}, lost {comparison.lost}, p = {comparison.p_value:.3g}"
    decide(ctx.store, state.number, "accepted" if accepted else "rejected", reason)
    if not accepted:
        serve(ctx, state.serving, state.number)


def accepts(rule: str, level: float, comparison: Comparison) -> bool:
    """`improve`: significantly better. `not_worse`: not significantly worse. `always`: whatever it is."""
    significant = comparison.p_value < level
    if rule == "improve":
        return significant and comparison.gained > comparison.lost
    if rule == "not_worse":
        return not (significant and comparison.lost > comparison.gained)
    return True
