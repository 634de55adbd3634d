"""Rate limits: per minute, from the server's headers, and pauses that the server asks for."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

BURST_S = 0.2
"""Seconds' worth of units that may be sent early, to compensate for late timers: 0.3% of a minute."""

POLL_S = 0.05

MAX_PAUSE_S = 900.0
"""A longer wait that the server asks for ends the phase, for example a daily quota."""

SAY_FROM_S = 10.0
"""A shorter wait that the server asks for is not reported."""

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class PerMinute:
    """A limit of units per minute, spread evenly (the generic cell rate algorithm, ITU-T I.371).

    Times are seconds of the caller's clock. `_due` is the time at which the units taken so far are used up.
    """

    def __init__(self, units: float, now: float) -> None:
        self._seconds_per_unit = 60.0 / units
        self._due = now

    def wait_s(self, now: float) -> float:
        """Seconds until the next units may be taken."""
        return max(0.0, self._due - now)

    def take(self, units: float, now: float) -> None:
        """Count units taken now; a negative number gives units back."""
        self._due = max(self._due, now - BURST_S) + units * self._seconds_per_unit


@dataclass
class Remaining:
    """One limit from the server's headers: units left until `full_at`, in the clock's seconds."""

    left: float = float("inf")
    full_at: float = 0.0

    def wait_s(self, units: float, now: float) -> float:
        """Seconds to wait before this many more units may be taken."""
        return max(0.0, self.full_at - now) if units > self.left else 0.0


class LimitUsedUp(Exception):
    """The server accepts no more requests for longer than the client waits: limit `what`, for `seconds`."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(what, seconds)
        self.what, self.seconds = what, seconds


class RateLimit:
    """Keeps requests and tokens per minute within the configured limits and the server's.

    `sleep` waits for seconds; if it raises, every waiting request ends. `say` receives messages on long waits, `clock`
    returns seconds.
    """

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        now = clock()
        self._requests = PerMinute(requests_per_minute, now) if requests_per_minute else None
        self._tokens = PerMinute(tokens_per_minute, now) if tokens_per_minute else None
        self._server = {"requests": Remaining(), "tokens": Remaining()}
        self._paused_until = now
        self._sleep, self._say = sleep, say
        self._said_until = now
        self._clock = clock
        self._lock = asyncio.Lock()

    async def acquire(self, tokens: int) -> None:
        """Wait until a request may be sent, first come first served, and count it with its estimated tokens.

        Raises LimitUsedUp if the server's own limit allows nothing for longer than `MAX_PAUSE_S`.
        """
        async with self._lock:
            while (seconds := self._wait_s(tokens)) > 0:
                self._look_at_servers_wait(tokens)
                # Sleep in short steps, because returned tokens and new headers may shorten the wait.
                await self._sleep(min(seconds, POLL_S))
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

    def _look_at_servers_wait(self, tokens: int) -> None:
        """Report once why and until when the server makes requests wait; raises LimitUsedUp if that is too long."""
        now = self._clock()
        waits = {unit: self._server[unit].wait_s(units, now) for unit, units in (("requests", 1), ("tokens", tokens))}
        what = max(waits, key=lambda unit: waits[unit])
        if waits[what] > MAX_PAUSE_S:
            raise LimitUsedUp(what, waits[what])
        self._say_wait(waits[what], f"its limit of {what} is used up")

    def _say_wait(self, seconds: float, why: str) -> None:
        until = self._clock() + seconds
        if seconds >= SAY_FROM_S and until > self._said_until + SAY_FROM_S:
            self._said_until = until
            self._say(f"  waiting for the teacher until {moment_after(seconds)}: {why}")

    def settle(self, estimated: int, used: int) -> None:
        """Replace an estimate by the tokens used."""
        if self._tokens is not None:
            self._tokens.take(used - estimated, self._clock())

    def pause(self, seconds: float) -> None:
        """Send nothing for these seconds."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)
        self._say_wait(seconds, "it asks for a pause")

    def observe(self, headers: Mapping[str, str], in_flight: int, tokens_in_flight: int) -> None:
        """Take over `x-ratelimit-remaining-*` and `x-ratelimit-reset-*` of an answer.

        Requests in flight are subtracted: the server may not have counted them yet.
        """
        for unit, pending in (("requests", in_flight), ("tokens", tokens_in_flight)):
            left = headers.get(f"x-ratelimit-remaining-{unit}", "")
            reset = duration_s(headers.get(f"x-ratelimit-reset-{unit}", ""))
            if reset is not None and re.fullmatch(r"\d+(\.\d+)?", left):
                self._server[unit] = Remaining(float(left) - pending, self._clock() + reset)


def moment_after(seconds: float) -> str:
    """The time of day after these seconds, with the day if it is another."""
    now = datetime.now()
    then = now + timedelta(seconds=min(seconds, 10**9))
    return then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d %H:%M")


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
