"""Phase `evaluate`: a policy's greedy answers to held-out questions.

The `test` split is what is reported, in the styles that are trained, guarded or asked for. The `gate` split is what the
gate decides by, in the style that is trained and those it guards: a split that is used to choose flatters its choice.
"""

from loop.context import Context
from loop.evaluation.answer_questions import evaluate_policy
from loop.evaluation.comparison import gate_split, gate_styles
from loop.evaluation.gate_questions import compared_policy, gate_questions
from loop.evaluation.reported_styles import reported_styles
from store.questions import find_questions
from store.rounds import Round


def evaluate(ctx: Context, round_: Round) -> None:
    """Evaluate the round's candidate; in round 0 the base model first, so that the log shows the start.

    What the gate compares the candidate with answers the gate's questions too, where it has not:
    questions may have been added.
    """
    split, settings = gate_split(ctx.store, ctx.config.evaluation.split), ctx.config.evaluation
    reported = find_questions(ctx.store, "split = ? ORDER BY id LIMIT ?", settings.split, settings.limit or -1)
    reported_in = reported_styles(ctx.store)
    if round_.number == 0:
        evaluate_policy(ctx, round_.serving_policy, round_.number, settings.split, reported, reported_in)
    if round_.candidate_policy is None:
        return
    evaluate_policy(ctx, round_.candidate_policy, round_.number, settings.split, reported, reported_in)
    decisive, styles = gate_questions(ctx.store, ctx.config), gate_styles(ctx.config)
    evaluate_policy(ctx, round_.candidate_policy, round_.number, split, decisive, styles)
    if round_.number > 0:
        for style in styles:
            evaluate_policy(ctx, compared_policy(ctx, round_, style), round_.number, split, decisive, [style])
