"""Phase `swap`: loads the candidate's weights into the running sampler, and proves them."""

from loop.context import Context
from loop.swap_and_prove import serve_policy
from store.rounds import Round


def swap(ctx: Context, round_: Round) -> None:
    """Serve the candidate."""
    if round_.candidate_policy is not None:
        serve_policy(ctx, round_.candidate_policy, round_.number)
