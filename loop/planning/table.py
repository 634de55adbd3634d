"""Formats the plan as a table."""

from collections.abc import Iterator

from loop.planning.fit import faults
from loop.planning.lengths import LONGEST_QUESTION
from loop.planning.machine import Machine
from loop.planning.memory import GIB
from loop.planning.plan import Plan


def phase_lines(plan: Plan) -> Iterator[tuple[str, str]]:
    """(phase, its GiB on the host or the card with their parts), for each device that it uses."""
    for phase in plan.phases:
        for place, own, together, beside in (
            ("host", phase.host, plan.host_peak(phase.name), plan.sampler_kept),
            ("card", phase.card, plan.card_peak(phase.name), plan.sampler_card),
        ):
            if not own.peak:
                continue
            of_all = plan.engines > 1 and place == "host" and phase.name == "sampling"
            parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in own.parts.items() if size >= GIB / 200)
            if phase.name not in ("sampling", "cold_start") and beside:
                parts += f", the sampler beside it {beside / GIB:.2f}"
            if of_all:
                parts = f"{plan.engines} processes of Ray's, each with {parts}"
            yield phase.name, f"{place} {together / GIB:.2f}: {parts}"


def plan_lines(plan: Plan, machine: Machine) -> Iterator[str]:
    """A line for each phase with its parts in GiB, then what fits."""
    longest = plan.longest
    yield (
        f"memory in GiB, sequences of {longest.tokens} tokens ({longest.prompt} of prompt by {longest.known_by},"
        f" {longest.answer} of answer)"
    )
    for name, detail in phase_lines(plan):
        yield f"  {name:<10}  {detail}"
    yield f"  disk: {plan.policy_bytes / GIB:.2f} for each policy, {plan.disk / GIB:.2f} for those that are kept"
    host = "unknown" if machine.host is None else f"{machine.host / GIB:.1f}"
    cards = "".join(f", card {number}: {size / GIB:.1f}" for number, size in enumerate(machine.cards))
    yield f"  this machine: {host} free{cards}, {machine.disk / GIB:.1f} on the disk"
    found = list(faults(plan, machine))
    sure = longest.known_by == LONGEST_QUESTION
    yield from (f"  {'does' if sure else 'with sequences of that length it does'} not fit: {fault}" for fault in found)
    if not found:
        yield "  it fits"
