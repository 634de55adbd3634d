"""The controller's record of one engine: its actor, its requests, and its figures."""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policies.ray_engines.actor import Description
from policies.sampler import Chain, EngineStatus, Request

LOG_LINES = 5
"""How many of a lost engine's last lines a message quotes."""


@dataclass
class Engine:
    """An engine and its unfinished calls. `failures` counts losses since its last finished chain."""

    number: int
    actor: Any = None
    place: Description | None = None
    serves: str | None = None
    """The sha256 of the weights that it is proved to hold."""
    asked: dict[int, Request] = field(default_factory=dict)
    """Requests that it has and has not answered, by their numbers."""
    calls: deque[Any] = field(default_factory=deque)
    """References of the calls that sample, in order."""
    reviving: Any = None
    restarts: int = 0
    failures: int = 0
    failed_proofs: int = 0
    """How often in a row its scores of the probe were wrong."""
    chains: int = 0
    tokens: int = 0
    busy_s: float = 0.0
    lost_because: str = ""
    """Why it is shut out, or was begun again last."""
    out: bool = False
    """Shut out for good."""

    @property
    def name(self) -> str:
        """The engine's name in logs and messages."""
        return f"engine {self.number}"

    @property
    def where(self) -> str:
        """Name, host and process."""
        return self.name if self.place is None else f"{self.name} ({self.place.host}, process {self.place.pid})"

    def answered(self, chains: list[Chain], seconds: float) -> None:
        """Count finished chains and their seconds."""
        self.chains += len(chains)
        self.tokens += sum(len(chain.token_ids) for chain in chains)
        self.busy_s += seconds
        if chains:
            self.failures = 0

    def last_log_lines(self, here: str) -> str:
        """The end of its standard error, if it ran on node `here`."""
        if self.place is None or self.place.node != here or not Path(self.place.log).is_file():
            return ""
        lines = Path(self.place.log).read_text(encoding="utf-8", errors="replace").splitlines()
        end = " | ".join(line.strip() for line in lines[-LOG_LINES:] if line.strip())
        # What a model wrote may be among it, and this goes to the terminal.
        return "".join(letter if letter.isprintable() else " " for letter in end)


def status_of(engine: Engine) -> EngineStatus:
    """The figures of one engine."""
    state = "shut out" if engine.out else "serving" if engine.serves and engine.reviving is None else "starting"
    return EngineStatus(
        engine.number,
        engine.place.host if engine.place else "",
        engine.place.pid if engine.place else 0,
        state,
        engine.serves,
        engine.chains,
        engine.tokens,
        engine.tokens / engine.busy_s if engine.busy_s else 0.0,
        engine.restarts,
        engine.lost_because,
    )
