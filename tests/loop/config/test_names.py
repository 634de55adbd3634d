"""Names and defaults that two places have: the configuration, and the registry or class that uses them."""

from dataclasses import fields
from typing import get_args

import pytest
from pydantic import BaseModel

from loop.config.learner import TrainingConfig
from loop.config.load import load_config
from loop.config.machine import EngineConfig, TrackingConfig
from loop.config.questions import QuestionsConfig
from loop.config.schema import GateConfig, SamplingConfig
from loop.config.teacher import EMBEDDED_TASKS, NOTES
from loop.config.update import GRPO_REWARDS, GrpoConfig, PairsConfig
from loop.config.update import STAGES as STAGE_NAMES
from loop.evaluation.gate_rules import RULES as GATE_RULES
from loop.questions.order import ORDERS
from loop.questions.registry import SOURCES
from loop.questions.sources.worked_steps import WORKED
from loop.teaching.templates import FOLDER
from loop.trackers import TRACKERS
from loop.training.pair_rules import PAIR_RULES
from loop.training.rewards import REWARDS
from loop.training.stages import SETTINGS, STAGES, training_settings
from policies.learner.grpo import LOSSES
from policies.vllm_engine import EngineSettings

pytestmark = pytest.mark.heavy  # TRL is loaded


def names(table: type[BaseModel], key: str) -> list[str]:
    """The names that a key of the configuration may have, alone or in a list."""
    found = get_args(table.model_fields[key].annotation)
    return sorted(get_args(found[0]) or found)


def test_every_name_of_the_configuration_is_registered() -> None:
    assert names(QuestionsConfig, "source") == sorted(SOURCES)
    assert names(SamplingConfig, "order") == sorted(ORDERS)
    assert names(PairsConfig, "rule") == sorted(PAIR_RULES)
    assert names(GateConfig, "rule") == sorted([*GATE_RULES, "sequential"])
    assert names(GrpoConfig, "loss") == sorted(LOSSES)
    assert sorted(GRPO_REWARDS) == sorted(REWARDS)
    assert [stage.name for stage in STAGES.rounds] == list(STAGE_NAMES)
    assert names(TrackingConfig, "report_to") == sorted(TRACKERS)
    assert sorted(EMBEDDED_TASKS) == sorted(WORKED)
    assert sorted(NOTES) == sorted(path.stem.removeprefix("note_") for path in FOLDER.glob("note_*.txt"))


def test_settings_of_the_engine_have_one_default() -> None:
    """The sampler's settings are filled from `[engine]`: a default of their own must not say something else."""
    own = {field.name: field.default for field in fields(EngineSettings)}
    shared = own.keys() & EngineConfig.model_fields.keys()
    assert {"gpu_memory_utilization", "max_num_seqs"} <= shared
    for key in shared:
        assert EngineConfig.model_fields[key].default == own[key], key


def test_the_learner_gets_every_key_of_a_training_table() -> None:
    handled_by_the_loop = {"lora_continue"}  # the loop chooses the adapter that a training starts from
    assert TrainingConfig.model_fields.keys() - handled_by_the_loop <= SETTINGS
    config = load_config("easy_vqa", ["rft.frozen=['vision']", "rft.lora_rank=4", "rft.lora_targets=['q_proj']"])
    settings = training_settings(config.rft, config.learner, seed=3)
    assert (settings.seed, settings.frozen, settings.lora_targets) == (3, ("vision",), ("q_proj",))
    assert (settings.learning_rate, settings.optimizer) == (config.rft.learning_rate, config.learner.optimizer)
