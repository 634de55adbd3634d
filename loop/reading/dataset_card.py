"""The card of exported pairs or samples: `README.md` beside the file, with the front matter that the Hub reads."""

import json
from collections.abc import Mapping

from loop.config.schema import Config
from store import Store

FILE_NAME = "README.md"

COLUMNS = {
    "pairs": {
        "prompt, chosen, rejected": "messages, as TRL's preference trainers take them",
        "images": "the question's images",
        "others": "question, accepted answers, round, rule, weight, authors, judges and outcomes of both sides",
    },
    "samples": {
        "prompt, completion": "messages, as TRL's SFTTrainer takes them",
        "images": "the question's images",
        "others": "question, accepted answers, round, author, policy, judge, outcome and score",
    },
}


def dataset_card(store: Store, config: Config, what: str, form: str, file: str, written: int) -> str:
    """The card of `written` rows of `what` ("pairs" or "samples") in a file of this form ("jsonl" or "parquet")."""
    data: dict[str, object] = {"configs": [{"config_name": what, "data_files": [{"split": "train", "path": file}]}]}
    judges = [row["judge"] for row in store.rows("SELECT DISTINCT judge FROM verdict ORDER BY judge")]
    rounds = store.value("SELECT count(*) FROM round WHERE phase = 'done'")
    loader = "json" if form == "jsonl" else "parquet"
    columns = "\n".join(f"| {name} | {meaning} |" for name, meaning in COLUMNS[what].items())
    return f"""---
{_yaml(data)}
size_categories:
- {_size(written)}
tags:
- ratchet
---

# {what.capitalize()} of a Ratchet run

{written:,} {what} of {rounds} rounds: chains of thought that a policy wrote for questions with known answers, judged by
{", ".join(f"`{judge}`" for judge in judges) or "no judge"}. Style `{config.sampling.style}`.

| column | is |
| --- | --- |
{columns}

```python
from datasets import load_dataset

rows = load_dataset("{loader}", data_files="{file}", split="train")
```

The questions' and images' own licences apply.
"""


def _yaml(data: Mapping[str, object]) -> str:
    """JSON is YAML too."""
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in data.items())


def _size(rows: int) -> str:
    """The Hub's names of sizes."""
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < limit:
            return name
    return "1M<n<10M" if rows < 10_000_000 else "n>10M"
