"""The commands of docs/serving.md, as written, against a small run of our own."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.reading.run_reader import open_run
from tests.support.command_line import BASE_MODEL, PROJECT, SMALL_ENGINE, run_command

PAGE = (PROJECT / "docs" / "serving.md").read_text()
RECIPE = f"""
[run]
rounds = 1
[policy]
model = "{BASE_MODEL}"
dtype = "float32"
[questions]
source = "easy_vqa"
train_limit = 300
[teacher]
base_url = "embedded"
model = "embedded-teacher"
[cold_start]
rationales = 24
direct_items = 64
format_items = 16
[sampling]
questions = 40
samples = 8
style = "direct"
max_tokens = 12
[update]
learning_rate = 1e-5
batch_size = 8
[evaluation]
limit = 30
max_tokens = 12
[gate]
limit = 30
rule = "always"
{SMALL_ENGINE}
"""
IMAGE_TOKENS = 16
START_S = 400


def commands() -> list[str]:
    """The code blocks of the page: the server, and the question."""
    return re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_names_what_a_run_leaves() -> None:
    serve, ask = commands()
    assert "--model runs/demo/policy/current" in serve
    assert "data:image/png;base64," in ask


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    run_command("run", "--config", tmp_path / "recipe.toml", "--run-dir", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def served(small_run: Path, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """The server of the page, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", as_here(commands()[0], small_run, port)],
            cwd=PROJECT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until_it_answers(process, port, tmp_path / "server.log")
            yield small_run, port
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=60)


def as_here(command: str, run_dir: Path, port: int) -> str:
    """A command of the page with our run, port and interpreter in the places of its own."""
    return (
        command.replace("runs/demo", str(run_dir))
        .replace("8000", str(port))
        .replace(".venv/bin/python", sys.executable)
    )


def wait_until_it_answers(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
            return
        except OSError:
            time.sleep(0.5)


@pytest.mark.slow
def test_the_served_policy_answers_by_curl_as_it_did_in_the_loop(served: tuple[Path, int], tmp_path: Path) -> None:
    run_dir, port = served
    question = as_here(commands()[1], run_dir, port)
    done = subprocess.run(["bash", "-c", question], cwd=PROJECT, capture_output=True, text=True, check=True)
    reply = json.loads(done.stdout)
    assert reply["choices"][0]["message"]["content"].strip()
    assert reply["usage"]["prompt_tokens"] > IMAGE_TOKENS
    run = open_run(run_dir)
    policy = int((run_dir / "policies" / "current").readlink().name)
    known = run.evaluations(policy=policy, split="test", style="direct", limit=10)
    asked = run.questions(question=known.question).set_index("question")
    template = run.configuration["prompts"]["direct"]
    same = 0
    for answer in known.itertuples():
        row = asked.loc[answer.question]
        run.image(row.images[0]).save(tmp_path / "image.png")
        text = json.dumps(template.replace("{question}", row.text))
        before, _, after = re.split(r'("text": "what.*?"})', question)
        body = f'{before}"text": {text}}}{after}'
        body = re.sub(r"IMAGE=.*", f"IMAGE={tmp_path / 'image.png'}", body)
        done = subprocess.run(["bash", "-c", body], cwd=PROJECT, capture_output=True, text=True, check=True)
        same += json.loads(done.stdout)["choices"][0]["message"]["content"].strip() == answer.text.strip()
    # Greedy answers, other batches: a tie may fall the other way.
    assert same >= 9
