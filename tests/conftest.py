"""Fixtures that tests share: small question files, a tiny text model, a finished scripted run."""

import json
import os
import random
from pathlib import Path

import hypothesis
import pytest

# Before torch is imported, and for every process that a test starts: two test processes on two cores wait for each
# other ten times longer where each of them computes with two threads that spin while they wait.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# A process that a test kills leaves its semaphores to Python's resource tracker, which says so at the end.
os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker:UserWarning"

from base_model.scenes import draw_scene
from tests.support import forked
from tests.support.command_line import run_program


def pytest_collection_finish(session: pytest.Session) -> None:
    """Import what the chosen tests will start processes of."""
    heavy = any(item.get_closest_marker("heavy") for item in session.items)
    forked.import_beforehand(*forked.COMMAND_LINE, *forked.LOOP, *(forked.MODELS if heavy else ()))


# Two workers and the processes of their tests share the cores: an example may take a second and be right.
hypothesis.settings.register_profile("shared_cores", deadline=None)
hypothesis.settings.load_profile("shared_cores")


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


@pytest.fixture(scope="session")
def scripted_run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two rounds through every phase, with scripted weights; tests only read it."""
    folder = tmp_path_factory.mktemp("scripted")
    run_program("scripted_run_with_tensorboard", folder)
    return folder / "run"
