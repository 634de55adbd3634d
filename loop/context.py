"""What every phase works with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loop.config.schema import Config
from loop.terminal.console import Console
from loop.trackers import Tracker
from policies.encoding import Encoder, Prompt
from policies.sampler import Sampler
from policies.teacher.chat import Chat
from policies.teacher.client import Teacher
from store import Store
from store.questions import Question


class Stopped(Exception):
    """The user asked to stop; everything done so far is committed."""


@dataclass
class Context:
    """One session of a run: the open store and the running parts."""

    run_dir: Path
    config: Config
    store: Store
    encoder: Encoder
    console: Console
    session: int
    teacher: Teacher | None = None
    trackers: Sequence[Tracker] = ()
    chat: Chat | None = None
    """Judge `llm`, once it was asked."""
    sampler: Sampler | None = None
    serving: int | None = None
    """The policy whose weights the sampler is proved to hold."""
    stopping: bool = field(default=False)

    def check_stop(self) -> None:
        """Called where everything is committed; raises Stopped if the user asked for it."""
        if self.stopping:
            raise Stopped

    def prompt(self, question: Question, style: str) -> Prompt:
        """The question in a style's template."""
        template: str = getattr(self.config.prompts, style)
        return Prompt(template.replace("{question}", question.text), question.images)

    def policy_directory(self, path: str) -> Path:
        """Where a policy's weights lie; published ones are relative to the run directory."""
        return self.run_dir / path
