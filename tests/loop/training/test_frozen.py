"""`frozen` of each training table: a part that the model lacks is refused before a run begins."""

from pathlib import Path

import pytest

from loop.config.load import load_config
from loop.errors import InputError
from loop.training.check_learner import check_learner

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("table", ["cold_start", "rft", "update", "grpo"])
def test_a_frozen_part_that_is_missing_names_its_table(text_model: Path, tmp_path: Path, table: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'[policy]\nmodel = "{text_model}"\n[questions]\nsource = "jsonl"\npath = "unused.jsonl"\n')
    config = load_config(str(recipe), [f"{table}.frozen=['vision_tower']", "teacher.enabled=false"])
    message = rf"^{table}\.frozen: no parameter of the model has 'vision_tower' in its name$"
    with pytest.raises(InputError, match=message):
        check_learner(config)
    check_learner(load_config(str(recipe), [f"{table}.frozen=['embed']", "teacher.enabled=false"]))
