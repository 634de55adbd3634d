"""Modules that every scripted run needs; `tests.support.forked` imports them before it forks, which saves a second."""

from loop.questions.sources.easy_vqa import annotations
from tests.support.scripted_run import scripted_encoder

scripted_encoder()
annotations()
