"""What may still be spent on the teacher: dollars and requests, with what is in flight held back."""

from dataclasses import dataclass


@dataclass
class Limit:
    """One budget: `name` is the key that set it, `left` what remains of it, in dollars or requests."""

    name: str
    left: float
    per_request: bool = False
    held: float = 0.0


class Budget:
    """Several limits that must all hold.

    A request's highest possible cost is held from when it is admitted until it is settled, so
    requests in flight together cannot overrun a limit that each of them alone would keep.
    """

    def __init__(self, limits: list[Limit]) -> None:
        self._limits = limits
        self._in_flight = 0
        self.spent: str | None = None
        """The name of the limit that refused a request with nothing in flight; None while there is room."""

    def admit(self, most: float) -> bool:
        """Hold `most` dollars and one request, if every limit has room for them."""
        for limit in self._limits:
            if limit.held + (1.0 if limit.per_request else most) > limit.left + 1e-9:
                if not self._in_flight:
                    self.spent = limit.name
                return False
        self._in_flight += 1
        for limit in self._limits:
            limit.held += 1.0 if limit.per_request else most
        return True

    def settle(self, most: float, cost: float, *, made: bool = True) -> None:
        """Give back what `admit` held and book what it came to; a request never made counts for nothing."""
        self._in_flight -= 1
        for limit in self._limits:
            limit.held = max(0.0, limit.held - (1.0 if limit.per_request else most))
            if made:
                limit.left -= 1.0 if limit.per_request else cost
