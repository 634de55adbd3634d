"""The configuration that is published: its own ids are right, and what transformers warns of is not in it."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, Idefics3Config
from transformers.utils import logging as transformers_logging

from tests.support.command_line import BASE_MODEL


def special_ids(config: Any) -> Iterator[tuple[str, int]]:
    """Every id of a special token, at whatever depth."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from special_ids(value)
        elif key.endswith("_token_id") and value is not None:
            yield key, value


def test_every_special_token_is_in_the_vocabulary() -> None:
    for name in ("config.json", "generation_config.json"):
        published = json.loads((BASE_MODEL / name).read_text())
        assert all(0 <= number < 540 for _, number in special_ids(published)), name
    assert AutoConfig.from_pretrained(BASE_MODEL).text_config.vocab_size == 540


def warnings_of(caplog: pytest.LogCaptureFixture, work: Any) -> set[str]:
    """Warnings of transformers during the work, those that it gives once per process included."""
    transformers_logging.warning_once.cache_clear()
    caplog.clear()
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        work()
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)
    return {record.getMessage() for record in caplog.records}


def test_the_model_loads_and_saves_without_a_warning(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    def load_and_save() -> None:
        for place in (BASE_MODEL, tmp_path):
            model = AutoModelForImageTextToText.from_pretrained(place)
            AutoProcessor.from_pretrained(place).save_pretrained(tmp_path)
            model.save_pretrained(tmp_path)

    assert warnings_of(caplog, Idefics3Config)  # its own default, which `has_no_defaults_at_init` keeps it from
    assert warnings_of(caplog, load_and_save) == set()
