"""Phase `gate`: accept the candidate, or roll back."""

from loop.context import Context
from loop.errors import LoopError
from loop.evaluation.comparison import Comparison, compare, gate_split, gate_styles
from loop.evaluation.gate_questions import compared_policy
from loop.evaluation.gate_rules import accepts
from loop.swap_and_prove import serve_policy
from store.rounds import Round, record_decision


def gate(ctx: Context, round_: Round) -> None:
    """Compare the candidate with the best accepted policy of each style on the same questions.

    By the recipe's rule in the style that is trained; in a style that is guarded it must not be worse. Begun again
    after a crash it keeps to what was decided.
    """
    if round_.decision is not None:
        if round_.decision == "rejected":
            serve_policy(ctx, round_.serving_policy, round_.number)
        return
    if round_.candidate_policy is None:
        record_decision(ctx.store, round_.number, "no_update", "there was nothing to train on")
        return
    if round_.number == 0:
        record_decision(ctx.store, 0, "accepted", "the cold start is where the rounds begin")
        return
    settings, (trained, *guarded) = ctx.config.gate, gate_styles(ctx.config)
    other, split = compared_policy(ctx, round_, trained), gate_split(ctx.store, ctx.config.evaluation.split)
    comparison = compare(ctx.store, round_.candidate_policy, other, split, trained)
    if comparison.questions == 0:
        raise LoopError(f"the gate has no question of split {split!r} to compare on; begin a run whose source has some")
    accepted = accepts(settings.rule, settings.level, comparison)
    reason = f"against policy {other} on {comparison.questions} questions of split {split!r}: {_in_words(comparison)}"
    for style in guarded:
        best = compared_policy(ctx, round_, style)
        comparison = compare(ctx.store, round_.candidate_policy, best, split, style)
        accepted = accepted and accepts("not_worse", settings.level, comparison)
        reason += f"; {style} against policy {best}: {_in_words(comparison)}"
    record_decision(ctx.store, round_.number, "accepted" if accepted else "rejected", reason, other)
    ctx.reporter.say(f"  {reason}: {'accepted' if accepted else 'rejected'}")
    if not accepted:
        serve_policy(ctx, round_.serving_policy, round_.number)


def _in_words(comparison: Comparison) -> str:
    return f"gained {comparison.gained}, lost {comparison.lost}, p = {comparison.p_value:.3g}"
