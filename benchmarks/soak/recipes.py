"""The small configurations of the soak, and the questions that are added to their runs."""

import json
from pathlib import Path

from tests.support.command_line import BASE_MODEL, SMALL_ENGINE

ROUNDS = 2

COMMON = f"""
[run]
rounds = {ROUNDS}
[policy]
model = "{BASE_MODEL}"
dtype = "float32"
[questions]
source = "easy_vqa"
train_limit = 300
[teacher]
base_url = "TEACHER"
api_key_env = ""
model = "embedded-teacher"
backoff_s = 0.1
timeout_s = 20
attempts = 20
[cold_start]
rationales = 48
direct_items = 64
format_items = 16
learning_rate = 1e-3
epochs = 2
[evaluation]
styles = ["cot", "direct"]
limit = 100
max_tokens = 12
[learner]
checkpoint_minutes = 0.02
"""

DIRECT = """
[sampling]
questions = 60
samples = 8
style = "direct"
max_tokens = 12
"""

RECIPES = {
    "dpo": DIRECT
    + """
[update]
learning_rate = 1e-5
batch_size = 8
epochs = 2
losses = { sigmoid = 0.2, sft = 1.0 }
[gate]
limit = 100
[retention]
keep_every = 1
""",
    "rft_dpo": DIRECT
    + """
[rft]
per_question = 1
learning_rate = 1e-4
batch_size = 16
[pairs]
per_question = 1
balance = true
[update]
learning_rate = 1e-3
batch_size = 8
[gate]
rule = "sequential"
first_look = 50
limit = 200
shrink = [0.5, 0.25]
[retention]
keep_every = 100
""",
    "fallback": """
[sampling]
questions = 24
samples = 4
max_tokens = 48
[fallback]
questions = 8
[update]
learning_rate = 1e-5
batch_size = 8
[gate]
limit = 40
""",
    "grpo": DIRECT
    + """
[pairs]
per_question = 0
[grpo]
groups = "mixed"
learning_rate = 1e-5
batch_size = 32
[gate]
limit = 100
""",
}
"""By name: DPO with every policy kept; chains of the teacher; GRPO; two stages, shrunk, with old weights deleted."""


def write_recipe(folder: Path, name: str, teacher: str) -> Path:
    """Write the configuration file; its teacher has this address."""
    path = folder / f"{name}.toml"
    path.write_text(COMMON.replace("TEACHER", teacher) + RECIPES[name] + SMALL_ENGINE)
    return path


def write_questions(folder: Path) -> tuple[Path, Path]:
    """Write two files of questions: those that are added before the last round, and those added during it."""
    files = folder / "before.jsonl", folder / "while.jsonl"
    for file in files:
        rows = (
            {"question": f"what is number {number} of {file.stem}?", "answer": "red", "split": "train"}
            for number in range(20)
        )
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files
