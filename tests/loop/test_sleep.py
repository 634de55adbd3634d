"""While the learner trains the sampler leaves its card, and comes back in an order that never holds both."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from loop.controller import run
from loop.terminal.console import Console
from policies.encoding import Encoder
from policies.vllm_engine import EngineSettings
from tests.support.scripted_run import Script, ScriptedEngine, in_process, scripted_config, scripted_parts


class SleepyEngine(ScriptedEngine):
    """Writes down the calls that it gets, and refuses what an engine on a card could not do."""

    can_sleep = True

    def __init__(self, encoder: Encoder, script: Script, log: list[str]) -> None:
        super().__init__(encoder, script)
        self.log, self.awake = log, {"weights", "kv_cache"}

    def sleep(self) -> None:
        self.log.append("sleep")
        self.awake.clear()

    def wake(self, part: Literal["weights", "kv_cache"]) -> None:
        self.log.append(f"wake {part}")
        self.awake.add(part)

    def load_weights(self, directory: Path) -> str:
        assert "weights" in self.awake, "there is no room for the weights"
        self.log.append("load")
        return super().load_weights(directory)

    def sample(self, *arguments: Any) -> Any:
        assert self.awake == {"weights", "kv_cache"}, "it sleeps"
        return super().sample(*arguments)

    def prove(self, *arguments: Any) -> list[float]:
        assert self.awake == {"weights", "kv_cache"}, "it sleeps"
        self.log.append("score")
        return super().prove(*arguments)


def run_with(folder: Path, can_sleep: bool, level: int) -> tuple[list[str], str]:
    """Run with this engine; return the calls that it got and the run's output."""

    def work() -> None:
        os.chdir(folder)  # where the scripted teacher writes its ledger
        script, log = Script(), list[str]()

        def start_sampler(model: str, encoder: Encoder, settings: EngineSettings, seed: int) -> SleepyEngine:
            engine = SleepyEngine(encoder, script, log)
            engine.can_sleep = can_sleep
            return engine

        def train() -> None:
            log.append("train")

        script.while_training = train
        parts = replace(scripted_parts(script, [], lambda _: None), start_sampler=start_sampler)
        config = scripted_config(folder, engine={"sleep": level})
        run(config, folder / "run", Console(quiet=True), parts=parts)
        (folder / "log.json").write_text(json.dumps(log))

    assert in_process(work) == 0
    return json.loads((folder / "log.json").read_text()), (folder / "run" / "run.log").read_text()


def test_the_sampler_sleeps_during_training_and_wakes_weights(tmp_path: Path) -> None:
    log, said = run_with(tmp_path, can_sleep=True, level=1)
    assert "train" in log[: log.index("load")], "the cold start trains before the engine starts"
    log = [name for name, before in zip(log, ["", *log], strict=False) if name != before]  # two stages train
    first = log.index("sleep")
    assert log[first : first + 6] == ["sleep", "train", "wake weights", "load", "wake kv_cache", "score"]
    assert log.count("sleep") == log.count("wake weights") == log.count("wake kv_cache") == 2
    assert "has no effect" not in said


def test_where_it_cannot_sleep_the_run_says_so_and_goes_on(tmp_path: Path) -> None:
    log, said = run_with(tmp_path, can_sleep=False, level=2)
    assert "sleep" not in log
    assert "engine.sleep = 2 has no effect: vLLM cannot sleep on this machine" in said


def test_without_the_key_nothing_sleeps(tmp_path: Path) -> None:
    log, said = run_with(tmp_path, can_sleep=True, level=0)
    assert "sleep" not in log
    assert "has no effect" not in said
