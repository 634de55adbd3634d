"""The model card: what it claims is in the store, what strangers wrote cannot act in it, the weights stay the same."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from loop.config.load import parse_config
from loop.reading.accuracy_log import log_rows
from loop.reading.model_card import FILE_NAME, card
from policies.weights import weights_sha256
from store import open_store
from tests.support.forked import run_forked
from tests.support.scripted_run import Script, run_scripted, scripted_config

HOSTILE = "a | b](http://x) <script>alert(1)</script>\n# `head` ***\x1b[31m ---\n"


@pytest.fixture
def run_copy(scripted_run_dir: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(scripted_run_dir, copy, symlinks=True)
    return copy


def test_every_policy_on_disk_has_a_card_and_recorded_weights(scripted_run_dir: Path) -> None:
    store = open_store(scripted_run_dir, read_only=True)
    rows = store.rows("SELECT * FROM policy WHERE made_by != 'base' AND deleted IS NULL")
    assert rows
    log = {row["policy"]: row for row in log_rows(store)}
    for row in rows:
        directory = scripted_run_dir / row["path"]
        assert weights_sha256(directory) == row["sha256"]
        made = ModelCard.load(directory / FILE_NAME)
        assert row["sha256"] in made.text
        assert made.data.library_name == "transformers"
        accuracies = log[row["number"]]["accuracy"]
        assert {each.metric_name: each.metric_value for each in made.data.eval_results} == {
            f"accuracy ({style})": round(accuracies[style]["accuracy"], 4) for style in ("cot", "direct")
        }
        low, high = accuracies["cot"]["low"], accuracies["cot"]["high"]
        assert f"[{100 * low:.1f}, {100 * high:.1f}]" in made.text
        assert str(scripted_run_dir.parent) not in made.content
    store.close()
    for link in ("policies/current", "policy/current"):
        assert (scripted_run_dir / link / FILE_NAME).is_file()


def run_shrinking(folder: Path) -> None:
    """One round whose candidate and first shrunk one are rejected; a quarter of the way is accepted."""
    tables: dict[str, Any] = {"rule": "sequential", "first_look": 8, "shrink": [0.5, 0.25]}
    config = scripted_config(folder, gate=tables, run={"rounds": 1}, pairs={"band": [0.0, 1.0]})
    run_scripted(folder / "run", config, script=Script([0.1, 0.5, 0.1, 0.1, 1.0], held_out=40))


def test_the_card_of_a_shrunk_policy_names_parents_and_alpha(tmp_path: Path) -> None:
    run_forked(run_shrinking, tmp_path)
    run_dir = tmp_path / "run"
    text = (run_dir / "policies" / "current" / FILE_NAME).read_text()
    assert "the shrunk candidate of round 1. Its weights lie 0.25 of the way from policy 1 to policy 2" in text
    assert "which was trained (rft+dpo) from policy 1 and rejected. The gate's decision: accepted (" in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    found = {row[0]: row[1:] for row in rows}
    assert (found["4"][:3], found["4"][-1]) == (["1 and 2", "1", "shrunk, 0.25 of the way"], "accepted")
    assert (found["2"][:3], found["2"][-1]) == (["1", "1", "rft+dpo"], "rejected")
    assert int(found["2"][3]) > 0
    assert "3" not in found
    compared = ["4 (this one)", "2 (the trained candidate)", "1 (its parent)", "0 (the base model)"]
    assert [row[0] for row in rows if row[1] == "cot"] == compared
    assert "Settings of policy 2's update:" in text
    assert '"learning_rate"' in text.partition("Settings of policy 2's update:")[2]
    replaced = (run_dir / "policies" / "0002" / FILE_NAME).read_text()
    assert "the candidate of round 1, trained (rft+dpo) from policy 1. The gate's decision: rejected (" in replaced


def test_what_others_wrote_is_text_and_stays_in_its_cell(run_copy: Path) -> None:
    store = open_store(run_copy)
    with store.transaction():
        store.connection.execute("UPDATE teacher_call SET model = ?", (HOSTILE,))
        store.connection.execute("UPDATE round SET reason = ?", (HOSTILE,))
        store.connection.execute("UPDATE question SET split = ? WHERE split = 'train'", (HOSTILE,))
    number = store.value("SELECT max(number) FROM policy")
    tables = {
        "policy": {"model": HOSTILE.replace("/", "")},
        "questions": {"source": "easy_vqa"},
        "recipe": HOSTILE,
        "prompts": {"cot": "{question}\n```\n<script>\n````\n# not a heading"},
    }
    text = card(store, parse_config(tables, "here"), number, is_vision=True)
    store.close()
    outside = text.partition("---\n\n# ")[2].partition("`````\n{question}")[0]
    assert "<script" not in outside
    assert "\x1b" not in text
    assert "\n# `head`" not in text
    assert vars(ModelCard(text).data)["library_name"] == "transformers"
    widths = {line.count("|") - line.count("\\|") for line in outside.splitlines() if line.startswith("| teacher ")}
    assert widths == {3}
    assert "`````\n{question}\n```\n<script>\n````" in text
