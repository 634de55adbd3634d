"""Phase `gate`: accepts the candidate, or a shrunk one instead, or rolls back."""

from collections.abc import Iterator

from loop.context import Context
from loop.evaluation.gate_rules import try_candidate
from loop.evaluation.reported import evaluate_reported
from loop.swap_and_prove import serve_policy
from loop.training.publish import shrink
from store.gate import GateTrial, best_policy, gate_trials, record_trial
from store.rounds import Round, get_round, record_decision


def gate(ctx: Context, round_: Round) -> None:
    """Decide on the round, then serve the policy of the decision.

    On restart, keep the recorded trials and the recorded decision.
    """
    if round_.decision is None:
        _decide(ctx, round_)
        round_ = get_round(ctx.store, round_.number)
    if round_.decision == "rejected":
        serve_policy(ctx, round_.serving_policy, round_.number)
    if round_.decision == "accepted" and round_.candidate_policy is not None:
        serve_policy(ctx, round_.candidate_policy, round_.number)
        evaluate_reported(ctx, round_.candidate_policy, round_.number)


def _decide(ctx: Context, round_: Round) -> None:
    """Make the first accepted candidate the round's; if none is accepted, reject the round."""
    if round_.candidate_policy is None:
        best = best_policy(ctx.store)
        record_decision(ctx.store, round_.number, "no_update", "there was nothing to train on", best=best)
        return
    if round_.number == 0:
        reason = "the cold start is where the rounds begin"
        record_decision(ctx.store, 0, "accepted", reason, best=round_.candidate_policy)
        return
    known = {trial.policy: trial for trial in gate_trials(ctx.store, round_.number)}
    trials = list[GateTrial]()
    for policy in _candidates(ctx, round_):
        ctx.check_stop()
        trial = known.get(policy)
        if trial is None:
            trial = try_candidate(ctx, round_, policy)
            record_trial(ctx.store, round_.number, trial)
            ctx.reporter.say(f"  policy {policy} {trial.reason}: {'accepted' if trial.accepted else 'rejected'}")
        trials.append(trial)
        if trial.accepted:
            break
    last = trials[-1]
    record_decision(
        ctx.store,
        round_.number,
        "accepted" if last.accepted else "rejected",
        "; shrunk ".join(trial.reason for trial in trials),
        last.compared_with,
        candidate=last.policy if last.accepted else None,
        best=last.policy if last.best else best_policy(ctx.store),
    )


def _candidates(ctx: Context, round_: Round) -> Iterator[int]:
    """The trained candidate, then shrunk ones between the serving policy and it, made on demand."""
    assert round_.candidate_policy is not None
    yield round_.candidate_policy
    for alpha in ctx.config.gate.shrink:
        yield shrink(ctx, round_.serving_policy, round_.candidate_policy, alpha)
