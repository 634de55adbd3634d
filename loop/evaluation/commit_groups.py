"""Groups chains for commits: the size limits the loss by a kill and the delay of Ctrl-C."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import astuple

from loop.context import Context
from loop.reporting import Bar
from policies.sampler import Chain
from store.engines import record_engines


def commit_groups(ctx: Context, chains: Iterable[Chain], bar: Bar) -> Iterator[list[Chain]]:
    """Groups of a few hundred chains or a few seconds, for the caller to commit; the bar counts each chain.

    If the user wants to stop, finished chains are yielded at once, and Stopped is raised after that.
    """
    group: list[Chain] = []
    sizes = ctx.batch_sizes
    began = time.monotonic()
    for chain in chains:
        group.append(chain)
        bar.update()
        if len(group) >= sizes.commit_chains or time.monotonic() - began > sizes.commit_seconds or ctx.stopping:
            yield group
            _record_engines(ctx)
            ctx.check_stop()
            group, began = [], time.monotonic()
    if group:
        yield group
    _record_engines(ctx)
    ctx.check_stop()


def _record_engines(ctx: Context) -> None:
    if ctx.sampler is not None and (engines := ctx.sampler.status()):
        record_engines(ctx.store, ctx.session, [astuple(engine) for engine in engines])
