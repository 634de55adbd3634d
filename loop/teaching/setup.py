"""Opens the teacher that `[teacher]` configures."""

from contextlib import ExitStack

from loop.config.teacher import EMBEDDED, TeacherConfig
from loop.questions.registry import WriteRationale
from policies.teacher.client import Teacher
from policies.teacher.embedded_server import serve_teacher
from policies.teacher.prices import Price
from policies.teacher.request import TeacherSettings

SETTINGS = (
    *("model", "temperature", "max_tokens", "concurrency", "attempts", "backoff_s", "timeout_s", "longest_edge"),
    *("requests_per_minute", "tokens_per_minute", "api_key_env", "api_version"),
)


def open_teacher(config: TeacherConfig, write: WriteRationale | None, stack: ExitStack) -> Teacher | None:
    """The configured teacher; None without one. The embedded teacher, which answers by `write`, is served until
    `stack` is left.

    Raises TeacherError, naming the variable, if the key is not in the environment.
    """
    if not config.enabled:
        return None
    embedded = config.base_url == EMBEDDED
    url = config.base_url
    if embedded:
        assert write is not None, "the configuration allows the embedded teacher for sources that it knows only"
        url = stack.enter_context(serve_teacher(write))
    return Teacher(teacher_settings(config, url), embedded=embedded)


def teacher_settings(config: TeacherConfig, url: str) -> TeacherSettings:
    """The client's settings of a `[teacher]` table."""
    price = None if config.price is None else Price(**config.price.model_dump())
    return TeacherSettings(base_url=url, price=price, **{name: getattr(config, name) for name in SETTINGS})
