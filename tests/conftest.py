"""What tests share: the real command line in a subprocess, the shipped model, small question files."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from base_model.scenes import draw_scene

PROJECT = Path(__file__).resolve().parent.parent
BASE_MODEL = PROJECT / "models" / "shapes_2m"

SMALL_ENGINE = """
[engine]
max_model_len = 256
max_num_seqs = 64
kv_cache_gib = 0.5
enforce_eager = true
"""


def command(*arguments: object) -> list[str]:
    """The real command line."""
    return [sys.executable, str(PROJECT / "run_loop.py"), *map(str, arguments)]


def run_command(*arguments: object, check: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command line to its end; fails the test on an unexpected exit code."""
    done = subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={**os.environ, **environment},
        timeout=500,
        check=False,
    )
    if check is not None:
        assert done.returncode == check, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def log_of(run_dir: Path) -> list[dict]:
    """The accuracy log as `log --json` prints it."""
    return [json.loads(line) for line in run_command("log", run_dir, "--json").stdout.splitlines()]


def copy_without(folder: Path, missing: str) -> Path:
    """The shipped model's directory without one file."""
    folder.mkdir()
    for file in BASE_MODEL.iterdir():
        if file.name != missing:
            (folder / file.name).symlink_to(file)
    return folder


@pytest.fixture(scope="session")
def image_questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated images with a JSONL file of colour questions about them."""
    folder = tmp_path_factory.mktemp("shapes")
    rng, rows = random.Random(7), []
    (folder / "images").mkdir()
    for n in range(150):
        scene = draw_scene(rng)
        name = f"images/{n}.png"
        scene.image.save(folder / name)
        split = "test" if n < 40 else "train"
        rows.append({"question": "What color is it?", "answer": scene.color, "images": [name], "id": n, "split": split})
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text-only Llama with random weights and a byte-level tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from base_model.sentences import tokenizer_sentences
    from base_model.tokenizer import END, PAD, train_tokenizer

    folder = tmp_path_factory.mktemp("text_model")
    tokenizer = train_tokenizer(tokenizer_sentences())
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        head_dim=32,
        vocab_size=len(tokenizer),
        max_position_embeddings=256,
        initializer_range=0.1,
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


SCRIPTED = """
import sys
from pathlib import Path
import scripted_run
scripted_run.prepare()
folder = Path(sys.argv[1])
config = scripted_run.scripted_config(folder, tracking={"report_to": ["tensorboard"]})
scripted_run.run_scripted(folder / "run", config)
"""


@pytest.fixture(scope="session")
def scripted_run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two rounds through every phase, with scripted weights; tests only read it."""
    folder = tmp_path_factory.mktemp("scripted")
    run_python(SCRIPTED, folder)
    return folder / "run"


def run_python(program: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program of a test in a process of its own, with the project and its tests on the path."""
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr[-3000:]
    return done
