"""Runs that do not fit are refused before a model loads, with keys that make them fit."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from loop.config.load import load_config
from loop.config.schema import Config
from loop.controller import run
from loop.errors import InputError
from loop.planning.fit import MakePlan, cure, faults, require_fit
from loop.planning.lengths import Longest
from loop.planning.machine import Machine
from loop.planning.memory import GIB
from loop.planning.model_shape import ModelShape, Tower
from loop.planning.plan import engines_that_fit, make_plan
from loop.session import Parts
from loop.terminal.console import Console
from tests.support.command_line import run_command

DISK = 10**15
LONGEST = Longest(3000, 500, 4000, "the longest question", images=1000, pixel_bytes=1 << 30)


@cache
def eight_billion() -> ModelShape:
    """Like Qwen2.5-VL-7B: 28 layers of 3584, 152,064 words."""
    layer = [("q", 3584, 3584), ("k", 3584, 512), ("v", 3584, 512), ("o", 3584, 3584)]
    layer += [("gate", 3584, 18944), ("up", 3584, 18944), ("down", 18944, 3584)]
    linear = tuple((f"layers.{n}.{name}", i, o) for n in range(28) for name, i, o in layer)
    parameters = [(name, i * o) for name, i, o in linear] + [("embed", 152064 * 3584), ("head", 152064 * 3584)]
    parameters.append(("visual", 675_000_000))
    text = Tower(28, 3584, 3584, 512, 18944, gated=True, rms_norm=True)
    vision = Tower(32, 1280, 1280, 1280, 3420, gated=True, rms_norm=True)
    return ModelShape(tuple(parameters), linear, 152064, False, text, vision, 1176)


def config(*keys: str) -> Config:
    return load_config("llava_reasoner", list(keys))


def maker(card: int | None) -> MakePlan:
    return lambda variant: make_plan(variant, eight_billion(), LONGEST, card)


@pytest.mark.parametrize(("card", "cure"), [(80, "learner.dtype=bfloat16"), (64, "lora_rank=16")])
def test_eight_billion_parameters_fit_a_card_in_bf16_or_by_lora(card: int, cure: str) -> None:
    machine = Machine(200 * GIB, (card * GIB,), DISK)
    with pytest.raises(InputError, match=rf"\[update\] needs .* of the card, it has {card}\.0 GiB.*{cure}"):
        require_fit(config(), maker(machine.cards[0]), machine)


@given(host=st.integers(2, 400), card=st.none() | st.integers(8, 400))
def test_the_keys_that_are_named_make_it_fit(host: int, card: int | None) -> None:
    machine = Machine(host * GIB, () if card is None else (card * GIB,), DISK)
    make = maker(None if card is None else card * GIB)
    assume(list(faults(make(config()), machine)))
    said = cure(config(), make, machine)
    changes = re.findall(r"--set (\S+)", said)
    if changes:
        assert not list(faults(make(config(*changes)), machine))
    else:
        assert said.startswith("no key")


def test_smaller_batches_with_equal_items_come_before_adapters() -> None:
    before = config("update.batch_size=8", "update.accumulation=4", "update.lora_rank=16", "cold_start.lora_rank=16")
    machine = Machine(400 * GIB, (110 * GIB,), DISK)
    assert list(faults(maker(110 * GIB)(before), machine))
    changes = dict(each.split("=") for each in re.findall(r"--set (\S+)", cure(before, maker(110 * GIB), machine)))
    assert set(changes) == {"update.batch_size", "update.accumulation"}
    assert int(changes["update.batch_size"]) * int(changes["update.accumulation"]) == 32


def test_a_full_disk_is_a_fault() -> None:
    (fault,) = faults(maker(None)(config()), Machine(None, (), GIB))
    assert "of disk, 1.0 GiB are free" in fault


def test_run_refuses_before_a_model_loads(tmp_path: Path) -> None:
    def no_learner(*_: Any, **__: Any) -> Any:
        raise AssertionError("the learner was made")

    parts = Parts(make_learner=no_learner, machine=lambda _: Machine(2 * GIB, (), DISK))
    settings = load_config("easy_vqa", ["questions.train_limit=200", "engine.kv_cache_gib=2.0"])
    with pytest.raises(InputError, match=r"sampling needs 2\.\d GiB.*it fits with --set engine\.kv_cache_gib=0\.5"):
        run(settings, tmp_path / "run", Console(quiet=True), parts=parts)
    with pytest.raises(AssertionError, match="the learner was made"):
        run(settings, tmp_path / "run", Console(quiet=True), parts=parts, agreed=True)


def test_run_says_it_in_one_line_with_exit_code_2(tmp_path: Path) -> None:
    keys = ("questions.train_limit=200", "engine.kv_cache_gib=4000.0")
    options = [option for key in keys for option in ("--set", key)]
    done = run_command("run", "--config", "easy_vqa", "--run-dir", tmp_path / "run", *options, check=2)
    assert done.stderr.splitlines()[-1].startswith("error: this run does not fit into memory: sampling needs 4000")
    assert "Traceback" not in done.stderr


def test_dry_run_prints_the_plan() -> None:
    done = run_command("run", "--config", "easy_vqa", "--dry-run")
    assert "sequences of 105 tokens (41 of prompt by the longest question, 64 of answer)" in done.stdout
    assert re.search(r"#     update +host \d\.\d\d: weights 0\.01, gradients", done.stdout)
    assert "#     it fits" in done.stdout


@given(host=st.integers(1, 200), most=st.integers(1, 64))
def test_a_machine_has_as_many_engines_as_its_memory_allows(host: int, most: int) -> None:
    free = host * GIB
    settings = config("engine.kv_cache_gib=1", "engine.max_num_seqs=8")

    def fits(engines: int) -> bool:
        wanted = settings.model_copy(update={"engine": settings.engine.model_copy(update={"replicas": engines})})
        return not list(faults(make_plan(wanted, eight_billion(), LONGEST, None), Machine(free, (), DISK)))

    count = engines_that_fit(make_plan(settings, eight_billion(), LONGEST, None), free, most)
    assert 1 <= count <= most
    assert count == 1 or fits(count)
    assert count == most or not fits(count + 1)


def test_engines_that_do_not_fit_together_are_refused_by_the_key() -> None:
    settings = config("engine.replicas=8")
    one = make_plan(config(), eight_billion(), LONGEST, None)
    room = max(one.host_peak(phase.name) for phase in one.phases)
    with pytest.raises(InputError, match=r"it fits with --set engine\.replicas=1;"):
        require_fit(settings, maker(None), Machine(room, (), DISK))
