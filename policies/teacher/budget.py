"""What may still be spent on the teacher: dollars and requests, with what is in flight held back."""

from dataclasses import dataclass


@dataclass
class Limit:
    """One budget: `name` is the key that set it, `left` what remains of it, in dollars or requests."""

    name: str
    left: float
    per_request: bool = False
    held: float = 0.0

    def units(self, usd: float) -> float:
        """What a request of this cost takes of it."""
        return 1.0 if self.per_request else usd

    def has_room(self, usd: float) -> bool:
        """Whether one more request of at most this cost fits, with rounding errors of the sum forgiven."""
        return self.held + self.units(usd) <= self.left + 1e-9


class Budget:
    """Several limits that must all hold.

    A request's highest possible cost is held from when it is admitted until it is settled, so
    requests in flight together cannot overrun a limit that each of them alone would keep.
    """

    def __init__(self, limits: list[Limit]) -> None:
        self._limits = limits
        self.spent: str | None = None
        """The name of the limit that refused the last request; None if it was admitted."""

    def admit(self, most: float) -> bool:
        """Hold `most` dollars and one request, if every limit has room for them."""
        self.spent = next((limit.name for limit in self._limits if not limit.has_room(most)), None)
        if self.spent is not None:
            return False
        for limit in self._limits:
            limit.held += limit.units(most)
        return True

    def admit_again(self) -> bool:
        """Book one more sending of a request that was admitted already, if the limits of requests have room for it."""
        counted = [limit for limit in self._limits if limit.per_request]
        full = next((limit.name for limit in counted if not limit.has_room(0.0)), None)
        if full is not None:
            self.spent = full
            return False
        for limit in counted:
            limit.left -= 1.0
        return True

    def settle(self, most: float, cost: float, *, made: bool = True) -> None:
        """Give back what `admit` held and book what it came to; a request never made counts for nothing."""
        for limit in self._limits:
            limit.held -= limit.units(most)
            if made:
                limit.left -= limit.units(cost)
