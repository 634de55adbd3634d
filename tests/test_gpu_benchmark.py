"""`benchmarks.gpu --small` works without a card, so that the command works on the day that one is at hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import BANDWIDTH, by_card, markdown
from tests.support.command_line import PROJECT


def test_cards_are_known_by_a_part_of_their_name() -> None:
    assert by_card(BANDWIDTH, "NVIDIA H100 80GB HBM3") == 3350
    assert by_card(BANDWIDTH, "Voodoo 2") is None


def test_the_table_has_a_row_for_each_figure() -> None:
    part = {"part": "training", "model": "m", "tokens_per_s": 1234.5, "failed": "no room"}
    lines = markdown({"device": "CPU", "small": True, "parts": [part]}).splitlines()
    assert lines[0] == "Device: CPU (tiny models: --small)"
    assert lines[4:] == ["| training | m | tokens per s | 1,234 |", "| training | m | failed | no room |"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_of_the_small_benchmark_gives_its_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--small", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    parts = {each["part"]: each for each in json.loads((tmp_path / "gpu.json").read_text())["parts"]}
    engine, training, run = parts["sampling+swap+sleep"], parts["training"], parts["easy_vqa"]
    assert engine["sampled_tokens_per_s"] > 0 < engine["bare_vllm_tokens_per_s"]
    assert engine["swap_with_proof_s"] > 0 <= engine["probe_difference_nats"] < 1e-3
    assert training["trained_tokens_per_s"] > 0 < training["bare_trl_tokens_per_s"]
    assert training["rft_host_gib_planned"] > 0 < training["rft_host_gib_measured"]
    assert len(run["cot_accuracy"]) == 2
    assert "| swap with proof s |" in (tmp_path / "gpu.md").read_text()
