"""Small runs with real vLLM and real TRL: their recipes, and what their stores hold."""

import sqlite3
from pathlib import Path
from typing import Any

from tests.support.command_line import BASE_MODEL, SMALL_ENGINE

SAME_EACH_TIME = {
    "question": "SELECT hash, split FROM question ORDER BY id",
    "round": "SELECT number, phase FROM round ORDER BY number",
    "round_question": "SELECT round, position, question FROM round_question ORDER BY 1, 2",
    "sample": 'SELECT round, question, author, policy, style, "index", seed FROM sample ORDER BY 1, 2, 3, 4, 5, 6',
    "verdict": "SELECT count(*), count(DISTINCT sample) FROM verdict",
    "teacher_call": "SELECT hash, purpose FROM teacher_call WHERE purpose = 'cold_start' ORDER BY hash",
    "policy": "SELECT number, parent, made_by FROM policy ORDER BY number",
    "evaluation": "SELECT policy, split, style, question FROM evaluation ORDER BY 1, 2, 3, 4",
}

SMALL_EASY_VQA = f"""
[run]
rounds = 1
[policy]
model = "{BASE_MODEL}"
dtype = "float32"
[questions]
source = "easy_vqa"
train_limit = 600
[teacher]
base_url = "embedded"
model = "embedded-teacher"
[cold_start]
rationales = 48
direct_items = 64
format_items = 16
learning_rate = 1e-3
epochs = 2
[sampling]
questions = 150
samples = 8
style = "direct"
max_tokens = 12
[pairs]
per_question = 2
[update]
learning_rate = 1e-5
batch_size = 16
losses = {{ sigmoid = 0.2, sft = 1.0 }}
[evaluation]
styles = ["cot", "direct"]
limit = 300
max_tokens = 12
[gate]
limit = 300
"""
"""easy-VQA with the shipped model and endpoint, small; direct style, so that some answers are right."""


def query(run_dir: Path, sql: str) -> list[Any]:
    """Rows of the store, read as any other program would: plain sqlite3, while the run writes."""
    connection = sqlite3.connect(f"file:{run_dir / 'store.db'}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def poll(run_dir: Path, sql: str) -> list[Any]:
    """The same while the store may not be there yet."""
    try:
        return query(run_dir, sql)
    except sqlite3.OperationalError:
        return []


def write_recipe(folder: Path, text: str) -> Path:
    """A recipe file with a small engine."""
    path = folder / "recipe.toml"
    path.write_text(text + SMALL_ENGINE)
    return path


def jsonl_recipe(model: Path, questions: Path, teacher: str = "enabled = false") -> str:
    """A recipe for questions of a file."""
    return f"""
[run]
rounds = 1
[policy]
model = "{model}"
dtype = "float32"
[questions]
source = "jsonl"
path = "{questions}"
[prompts]
direct = "{{question}} Give a short answer."
[teacher]
{teacher}
[cold_start]
rationales = 20
direct_items = 60
format_items = 16
learning_rate = 3e-4
epochs = 2
[sampling]
questions = 60
samples = 8
style = "direct"
temperature = 1.5
max_tokens = 8
[update]
learning_rate = 1e-5
[evaluation]
max_tokens = 8
styles = ["cot", "direct"]
"""
