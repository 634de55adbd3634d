"""When the next request may leave: limits per minute, the server's own headers, and pauses it asks for."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

BURST_S = 0.2
"""How far a limit may run ahead to make up for late timers: a third of a percent of a minute's allowance."""

NAP_S = 0.05

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class PerMinute:
    """A limit of so many units a minute, spread evenly (the generic cell rate algorithm, ITU-T I.371).

    `due` is when the allowance will have been paid back in full; units that turn out not to have
    been used are given back.
    """

    def __init__(self, units: float, now: float) -> None:
        self._seconds_per_unit = 60.0 / units
        self._due = now

    def wait_s(self, now: float) -> float:
        """Seconds until something may leave."""
        return max(0.0, self._due - now)

    def take(self, units: float, now: float) -> None:
        """Count units that leave now; negative ones are given back."""
        self._due = max(self._due, now - BURST_S) + units * self._seconds_per_unit


@dataclass
class Remaining:
    """What the server's headers said is left of one of its limits, until it is full again."""

    left: float = float("inf")
    full_at: float = 0.0

    def wait_s(self, units: float, now: float) -> float:
        """Seconds to wait before `units` more may leave."""
        return max(0.0, self.full_at - now) if units > self.left else 0.0


class RateLimit:
    """Requests and tokens a minute, kept to what is configured and to what the server says.

    `sleep` is how to wait: it may raise, to end every waiter.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        now = clock()
        self._requests = PerMinute(requests_per_minute, now) if requests_per_minute else None
        self._tokens = PerMinute(tokens_per_minute, now) if tokens_per_minute else None
        self._server = {"requests": Remaining(), "tokens": Remaining()}
        self._paused_until = now
        self._sleep = sleep
        self._clock = clock
        self._turn = asyncio.Lock()

    async def turn(self, tokens: int) -> None:
        """Wait for one's turn, first come first served, and count the request and its estimated tokens."""
        async with self._turn:
            while (seconds := self._wait_s(tokens)) > 0:
                # Short naps: what is given back or learnt meanwhile may bring the turn forward.
                await self._sleep(min(seconds, NAP_S))
            now = self._clock()
            for limit, units in ((self._requests, 1), (self._tokens, tokens)):
                if limit is not None:
                    limit.take(units, now)
            self._server["requests"].left -= 1
            self._server["tokens"].left -= tokens

    def _wait_s(self, tokens: int) -> float:
        now = self._clock()
        waits = [self._paused_until - now]
        waits += [limit.wait_s(now) for limit in (self._requests, self._tokens) if limit is not None]
        waits += [self._server["requests"].wait_s(1, now), self._server["tokens"].wait_s(tokens, now)]
        return max(waits)

    def settle(self, estimated: int, used: int) -> None:
        """Replace an estimate by the tokens that were used."""
        if self._tokens is not None:
            self._tokens.take(used - estimated, self._clock())

    def pause(self, seconds: float) -> None:
        """Nothing leaves for so many seconds."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def observe(self, headers: Mapping[str, str], in_flight: int, tokens_in_flight: int) -> None:
        """Learn from `x-ratelimit-remaining-*` and `x-ratelimit-reset-*` of an answer.

        What is in flight is taken off: the server may not have counted it yet.
        """
        for unit, flying in (("requests", in_flight), ("tokens", tokens_in_flight)):
            left = headers.get(f"x-ratelimit-remaining-{unit}", "")
            reset = duration_s(headers.get(f"x-ratelimit-reset-{unit}", ""))
            if reset is not None and re.fullmatch(r"\d+(\.\d+)?", left):
                self._server[unit] = Remaining(float(left) - flying, self._clock() + reset)


def duration_s(text: str) -> float | None:
    """Seconds of `6m0s`, `120ms`, `1.5` (seconds); None for anything else."""
    text = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = DURATION.findall(text)
    if not parts or "".join(a + b for a, b in parts) != text:
        return None
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def retry_after_s(headers: Mapping[str, str], wall_clock: Callable[[], float] = time.time) -> float | None:
    """Seconds that `retry-after-ms` or `Retry-After` (seconds or a date, RFC 9110 10.2.3) asks for; None if neither."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - wall_clock())
    except (TypeError, ValueError):
        return None
