"""A few of the inputs of `benchmarks.fuzz_inputs`: whatever is fed, a command ends with a line, not a traceback."""

import json
from pathlib import Path

import pytest

from benchmarks.fuzz_inputs import INPUTS, fuzz
from tests.loop.test_backup import finished
from tests.support.forked import run_forked
from tests.support.stores import run_here


def fuzz_a_little() -> None:
    ends = fuzz(150, 17, lambda line: None)
    assert sum(ends.values()) >= 150
    assert {end.partition(":")[0] for end in ends} >= {
        "questions",
        "add",
        "import",
        "configuration",
        "judge",
        "teacher",
    }
    assert ends["questions: exit 0"]
    assert ends["teacher: answered"]


@pytest.mark.heavy
def test_no_input_ends_in_a_traceback() -> None:
    assert sum(share for share, _ in INPUTS.values()) == pytest.approx(1.0)
    run_forked(fuzz_a_little)


def test_a_data_url_beyond_ascii_is_refused_by_its_line(tmp_path: Path) -> None:
    run_forked(finished, tmp_path)
    row = {"prompt": "what?", "chosen": "a", "rejected": "b", "images": ["data:image/png;base64,é"]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    done = run_here("import", tmp_path / "run", "pairs", tmp_path / "pairs.jsonl", check=2)
    assert "line 1: an image's data URL is not base64" in done.stderr
