"""Rules by which the gate accepts a candidate, one function per rule."""

from collections.abc import Callable

from loop.context import Context
from loop.errors import LoopError
from loop.evaluation.answer_questions import evaluate_policy
from loop.evaluation.comparison import Comparison, compare, gate_split, gate_styles
from loop.evaluation.gate_questions import compared_policy, gate_questions
from loop.evaluation.sequential_test import Evidence, evidence, mean_of_units, sequential_test
from store.evaluations import greedy_outcomes
from store.gate import GateTrial, best_policy
from store.questions import Question, units_of_split
from store.rounds import Round, cold_start_policy


def try_candidate(ctx: Context, round_: Round, policy: int) -> GateTrial:
    """Test a policy by the recipe's rule; it and the policies compared with it answer their missing questions.

    An accepted policy becomes the best one only if it is better by more than a standard error (the Ladder of Blum and
    Hardt, arXiv 1502.04585): the same questions judge every round, so luck would add up.
    Raises LoopError if the gate has no questions.
    """
    questions = gate_questions(ctx.store, ctx.config)
    if not questions:
        split = gate_split(ctx.store, ctx.config.evaluation.split)
        raise LoopError(f"the gate has no question of split {split!r} to compare on; begin a run whose source has some")
    rule = _sequential if ctx.config.gate.rule == "sequential" else _on_all_questions
    return rule(ctx, round_, policy, questions)


def _sequential(ctx: Context, round_: Round, policy: int, questions: list[Question]) -> GateTrial:
    """The sequential test on the score, and for every guarded style the test against the cold start.

    The score of a question is 1 if the trained style is right, plus `guard_weight` for every guarded style that is
    right. So a gain can outweigh a loss. But a guarded style must not become significantly worse than after the cold
    start. Questions are asked until both are clear: whether the candidate is accepted, and whether it is better than
    the best.
    """
    settings, (trained, *guarded) = ctx.config.gate, gate_styles(ctx.config)
    split = gate_split(ctx.store, ctx.config.evaluation.split)
    best, start = best_policy(ctx.store), cold_start_policy(ctx.store)

    def ask(count: int) -> list[float]:
        asked = questions[:count]
        for number, styles in ((policy, [trained, *guarded]), (best, [trained, *guarded]), (start, guarded)):
            evaluate_policy(ctx, number, round_.number, split, asked, styles)
        return _differences(ctx, policy, best, asked)

    accepted, seen = sequential_test(ask, settings.first_look, len(questions), settings.margin, settings.level)
    reason = f"against policy {best} on {seen.questions} questions of split {split!r}: {_in_points(seen)}"
    found = {style: compare(ctx.store, policy, best, split, style) for style in (trained, *guarded)}
    reason += "".join(f"; {style}: {_in_words(comparison)}" for style, comparison in found.items())
    for style in guarded:
        comparison = compare(ctx.store, policy, start, split, style)
        if not not_worse(comparison, settings.level):
            accepted = False
            reason += f"; {style} worse than after the cold start: {_in_words(comparison)}"
    return _trial(policy, best, seen, reason, accepted=accepted)


def _on_all_questions(ctx: Context, round_: Round, policy: int, questions: list[Question]) -> GateTrial:
    """The rule in the trained style, `not_worse` in guarded ones, each against the best in that style."""
    settings, (trained, *guarded) = ctx.config.gate, gate_styles(ctx.config)
    split = gate_split(ctx.store, ctx.config.evaluation.split)
    evaluate_policy(ctx, policy, round_.number, split, questions, [trained, *guarded])
    against = {style: compared_policy(ctx, round_, style) for style in (trained, *guarded)}
    for style, other in against.items():
        evaluate_policy(ctx, other, round_.number, split, questions, [style])
    comparison = compare(ctx.store, policy, against[trained], split, trained)
    accepted = RULES[settings.rule](comparison, settings.level)
    reason = f"against policy {against[trained]} on {comparison.questions} questions of split {split!r}: "
    reason += _in_words(comparison)
    for style in guarded:
        comparison = compare(ctx.store, policy, against[style], split, style)
        accepted = accepted and not_worse(comparison, settings.level)
        reason += f"; {style} against policy {against[style]}: {_in_words(comparison)}"
    best = best_policy(ctx.store)
    evaluate_policy(ctx, best, round_.number, split, questions, [trained, *guarded])
    seen = evidence(_differences(ctx, policy, best, questions), settings.margin)
    return _trial(policy, against[trained], seen, reason, accepted=accepted)


def _trial(policy: int, other: int, seen: Evidence, reason: str, *, accepted: bool) -> GateTrial:
    better = accepted and seen.difference > seen.error
    return GateTrial(policy, other, seen.questions, seen.difference, seen.error, accepted, better, reason)


def _differences(ctx: Context, policy: int, other: int, asked: list[Question]) -> list[float]:
    """The policy's score minus the other's, for each question or unit that both answered.

    The two orders of a preference are usually right or wrong together, so counting both would overstate the evidence.
    """
    split = gate_split(ctx.store, ctx.config.evaluation.split)
    trained, *guarded = gate_styles(ctx.config)
    weights = {trained: 1.0} | dict.fromkeys(guarded, ctx.config.gate.guard_weight)
    differences = {question.id: 0.0 for question in asked}
    for style, weight in weights.items():
        mine, theirs = (greedy_outcomes(ctx.store, number, split, style) for number in (policy, other))
        # The sampler may have refused a question, or the user dropped it, after the gate chose its questions.
        both = differences.keys() & mine.keys() & theirs.keys()
        differences = {q: d + weight * (mine[q] - theirs[q]) for q, d in differences.items() if q in both}
    if not differences:
        raise LoopError(f"none of the gate's {len(asked)} questions of split {split!r} was answered by both policies")
    units = units_of_split(ctx.store, split)
    return mean_of_units(list(differences.values()), [units.get(question, question) for question in differences])


def improve(comparison: Comparison, level: float) -> bool:
    """Significantly better (exact McNemar test)."""
    return comparison.p_value < level and comparison.gained > comparison.lost


def not_worse(comparison: Comparison, level: float) -> bool:
    """Not significantly worse (exact McNemar test)."""
    return not (comparison.p_value < level and comparison.lost > comparison.gained)


def always(comparison: Comparison, level: float) -> bool:
    """Any candidate."""
    return True


RULES: dict[str, Callable[[Comparison, float], bool]] = {"improve": improve, "not_worse": not_worse, "always": always}


def _in_words(comparison: Comparison) -> str:
    return f"gained {comparison.gained}, lost {comparison.lost}, p = {comparison.p_value:.3g}"


def _in_points(seen: Evidence) -> str:
    return f"score {100 * seen.difference:+.2f} points (standard error {100 * seen.error:.2f})"
