"""What every scripted run needs and takes a second to load; `tests.support.forked` imports this before it forks."""

from loop.questions.sources.easy_vqa import annotations
from tests.support.scripted_run import scripted_encoder

scripted_encoder()
annotations()
