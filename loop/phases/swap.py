"""Phase `swap`: the candidate's weights into the running sampler, in place, and proved."""

from loop.context import Context
from loop.serving import serve
from store.rounds import Round


def swap(ctx: Context, state: Round) -> None:
    """Serve the candidate."""
    if state.candidate is not None:
        serve(ctx, state.candidate, state.number)
