"""The teacher against a real server that nobody here wrote: vLLM's own OpenAI server, images included."""

import io
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from base_model.scenes import draw_scene
from loop.config.load import parse_config
from loop.context import Context
from loop.phases.distil import distil
from loop.teaching.setup import teacher_settings
from loop.terminal.console import Console
from policies.encoding import Encoder
from policies.teacher.client import Teacher
from store import open_store
from store.new_questions import NewQuestion, add_questions
from store.questions import load_image
from store.rounds import Policy, add_policy, get_round, start_round
from store.teacher.calls import count_reasons
from tests.support.command_line import BASE_MODEL, PROJECT

QUESTIONS = 24


@pytest.fixture
def vllm_server(tmp_path: Path) -> Iterator[str]:
    """The server on a free loopback port, with the shipped vision-language model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(BASE_MODEL)]
    command += ["--served-model-name", "shapes", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--max-model-len", "512", "--max-num-seqs", "16", "--enforce-eager", "--no-enable-chunked-prefill"]
    command += ["--api-key", "sk-for-vllm"]
    log = (tmp_path / "vllm.log").open("wb")
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    deadline = time.monotonic() + 400
    try:
        while True:
            assert process.poll() is None, (tmp_path / "vllm.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (tmp_path / "vllm.log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=60)
        log.close()


@pytest.mark.slow
def test_vllms_own_server_answers_and_its_answers_are_judged(
    vllm_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_KEY", "sk-for-vllm")
    tables = {
        "policy": {"model": str(BASE_MODEL)},
        "questions": {"source": "easy_vqa"},
        "teacher": {"base_url": vllm_server, "model": "shapes", "api_key_env": "VLLM_KEY", "max_tokens": 24},
    }
    config = parse_config(tables, "here")
    store = open_store(tmp_path, create=True)

    def questions() -> Iterator[NewQuestion]:
        rng = random.Random(5)
        for _ in range(QUESTIONS):
            scene, buffer = draw_scene(rng), io.BytesIO()
            scene.image.save(buffer, format="PNG")
            # The shipped model answers this form of question without any training.
            text = "What color is it? Give a short answer."
            yield NewQuestion(text, [scene.color], [buffer.getvalue()], "train", "test", "exact")

    add_questions(store, questions())
    with store.transaction():
        add_policy(store, Policy(0, None, "base", "sha", "path", {}))
    start_round(store, 0, "distil", 0, list(range(1, QUESTIONS + 1)))
    teacher = Teacher(teacher_settings(config.teacher, vllm_server))
    encoder = Encoder(str(BASE_MODEL), lambda digest: load_image(store, digest))
    unused: Any = None
    ctx = Context(
        run_dir=tmp_path,
        config=config,
        store=store,
        encoder=encoder,
        reporter=Console(quiet=True),
        session=1,
        learner=unused,
        start_sampler=unused,
        stages=unused,
        teacher=teacher,
    )
    distil(ctx, get_round(store, 0))
    rows = store.rows("SELECT * FROM teacher_call")
    assert [row["status"] for row in rows] == ["answered"] * QUESTIONS
    assert all(row["usage"] == "reported" and row["completion_tokens"] > 0 for row in rows)
    image_tokens = 16
    assert all(row["prompt_tokens"] > image_tokens for row in rows)
    judged = store.value("SELECT count(*) FROM verdict JOIN sample ON sample.id = sample WHERE author = 'teacher'")
    assert judged == QUESTIONS
    assert sum(count_reasons(store, 0).values()) == QUESTIONS
    # Another image, another answer: the server looked at them.
    assert len({row["text"] for row in rows}) > 1
    distil(ctx, get_round(store, 0))
    assert store.value("SELECT sum(attempts) FROM teacher_call") == QUESTIONS
    store.close()
