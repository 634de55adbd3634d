"""The teacher's budget in dollars and requests, with requests in flight reserved."""

from dataclasses import dataclass


@dataclass
class Limit:
    """One limit: `name` is the configuration key that set it.

    `left` is the rest and `reserved` the most that requests in flight may take: dollars, or
    requests with `per_request`.
    """

    name: str
    left: float
    per_request: bool = False
    reserved: float = 0.0

    def units(self, usd: float) -> float:
        """The part of the limit that a request of this cost uses."""
        return 1.0 if self.per_request else usd

    def allows(self, usd: float) -> bool:
        """Whether one more request of at most this cost keeps the limit; rounding errors of the sum are tolerated."""
        return self.reserved + self.units(usd) <= self.left + 1e-9


class Budget:
    """Several limits that must all hold.

    A request's highest possible cost is reserved until the request is settled. So concurrent
    requests cannot exceed a limit together.
    """

    def __init__(self, limits: list[Limit]) -> None:
        self._limits = limits
        self.exhausted: str | None = None
        """The name of the limit that refused the last request; None if the request was allowed."""

    def reserve(self, max_usd: float) -> bool:
        """Reserve `max_usd` dollars and one request; False, with nothing reserved, if a limit does not allow it."""
        self.exhausted = next((limit.name for limit in self._limits if not limit.allows(max_usd)), None)
        if self.exhausted is not None:
            return False
        for limit in self._limits:
            limit.reserved += limit.units(max_usd)
        return True

    def add_retry(self) -> bool:
        """Count one more attempt of a reserved request; False if a limit on requests does not allow it."""
        counted = [limit for limit in self._limits if limit.per_request]
        full = next((limit.name for limit in counted if not limit.allows(0.0)), None)
        if full is not None:
            self.exhausted = full
            return False
        for limit in counted:
            limit.left -= 1.0
        return True

    def settle(self, max_usd: float, cost: float, *, made: bool = True) -> None:
        """Release the reservation and book the real cost; with `made` false nothing is booked."""
        for limit in self._limits:
            limit.reserved -= limit.units(max_usd)
            if made:
                limit.left -= limit.units(cost)
