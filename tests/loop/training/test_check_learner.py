"""Checks of the learner's settings before a run begins."""

import pytest

from loop.config.load import load_config
from loop.errors import InputError
from loop.training.check_learner import check_precision


def test_bfloat16_without_support_names_each_key_and_cure() -> None:
    keys = ["learner.dtype=bfloat16", "learner.optimizer=adamw_torch", "policy.dtype=bfloat16"]
    config = load_config("easy_vqa", [*keys, "update.mixed_precision=bf16"])
    check_precision(config, lambda: True)
    with pytest.raises(InputError) as caught:
        check_precision(config, lambda: False)
    said = str(caught.value)
    assert said.startswith("policy.dtype, learner.dtype, update.mixed_precision: this machine's GPU has no bfloat16")
    assert "--set policy.dtype=float32 --set learner.dtype=float32 --set update.mixed_precision=no" in said


def test_float32_needs_no_device_for_bfloat16() -> None:
    check_precision(load_config("easy_vqa", ["policy.dtype=float32"]), lambda: False)
