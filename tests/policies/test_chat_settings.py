"""A system prompt and options of the chat template: the same for sampler and learner, refused where they do nothing."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loop.config.load import parse_config
from loop.errors import InputError
from policies import SettingError
from policies.encoding import Encoder, Prompt
from policies.prompt import ChatSettings
from tests.support.command_line import BASE_MODEL, run_command
from tests.support.tiny_models import gemma3, template

pytestmark = pytest.mark.heavy

SYSTEM = "You look closely."


def with_template(folder: Path, text: str) -> Path:
    """The shipped model with another chat template."""
    shutil.copytree(BASE_MODEL, folder)
    (folder / "chat_template.jinja").write_text(text)
    return folder


def encoder(model: Path, system: str | None = None, **options: Any) -> Encoder:
    settings = ChatSettings(system, tuple(options.items()))
    return Encoder(str(model), lambda _: Image.new("RGB", (64, 64)), chat_settings=settings)


def test_every_prompt_begins_with_the_system_prompt() -> None:
    plain, told = encoder(BASE_MODEL), encoder(BASE_MODEL, SYSTEM)
    prompt = Prompt("What is it?", ("a",))
    assert told.chat(prompt) == f"<|system|>{SYSTEM}<end_of_utterance>{plain.chat(prompt)}"
    added = len(told.prompt_ids(prompt)) - len(plain.prompt_ids(prompt))
    assert added > 3
    assert len(told.expanded_prompt_ids(prompt)) - len(plain.expanded_prompt_ids(prompt)) == added


def test_a_special_token_in_the_system_prompt_does_not_act() -> None:
    told = encoder(BASE_MODEL, "Say <image> to me.")
    image = told.tokenizer.convert_tokens_to_ids("<image>")
    assert image not in told.prompt_ids(Prompt("What?"))
    assert told.expanded_prompt_ids(Prompt("What?"))


def test_options_reach_the_template(tmp_path: Path) -> None:
    model = with_template(tmp_path / "model", template("<image>"))
    assert encoder(model).chat(Prompt("?")).endswith("<|assistant|>")
    assert encoder(model, enable_thinking=True).chat(Prompt("?")).endswith("<|assistant|>")
    assert encoder(model, enable_thinking=False).chat(Prompt("?")).endswith("<|assistant|>no thinking: ")


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (template("<image>"), ChatSettings(None, (("enable_thinkin", False),)), "does not ask for 'enable_thinkin'"),
        (
            "{% for m in messages if m['role'] == 'user' %}{{ m['content'][-1]['text'] }}{% endfor %}",
            ChatSettings(SYSTEM),
            r"policy\.system_prompt: the chat template of .* leaves it out",
        ),
        (
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
            "{% for m in messages %}{{ m['content'][-1]['text'] }}{% endfor %}",
            ChatSettings(SYSTEM),
            r"policy\.system_prompt: the chat template of .* refuses it \(no system role\)",
        ),
    ],
)
def test_what_a_template_makes_nothing_of_is_refused(
    tmp_path: Path, text: str, settings: ChatSettings, message: str
) -> None:
    model = with_template(tmp_path / "model", text)
    with pytest.raises(SettingError, match=message):
        Encoder(str(model), lambda _: Image.new("RGB", (8, 8)), chat_settings=settings)


def configured(**policy: Any) -> Any:
    return parse_config(
        {
            "policy": {"model": "m", **policy},
            "questions": {"source": "jsonl", "path": "p"},
            "teacher": {"enabled": False},
        },
        "here",
    ).policy


def test_the_configuration_says_what_the_template_gets() -> None:
    assert configured().chat == ChatSettings()
    given = configured(system_prompt=SYSTEM, chat_template_options={"enable_thinking": False, "date": "today"})
    assert given.chat == ChatSettings(SYSTEM, (("date", "today"), ("enable_thinking", False)))
    with pytest.raises(InputError, match="'tokenize' is not an option of a template"):
        configured(chat_template_options={"tokenize": False})


def test_a_wrong_option_ends_a_run_with_one_line(image_questions: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[policy]\nmodel = "{BASE_MODEL}"\n[questions]\nsource = "jsonl"\npath = "{image_questions}"\n'
        "[teacher]\nenabled = false\n"
    )
    option = "policy.chat_template_options.enable_thinking=false"
    done = run_command("run", "--config", recipe, "--run-dir", tmp_path / "run", "--set", option, check=2)
    assert "does not ask for 'enable_thinking'; leave it out" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


WITHOUT_TORCHVISION = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed"
)


@WITHOUT_TORCHVISION
def test_a_processor_that_needs_torchvision_says_so(tmp_path: Path) -> None:
    model = with_template(tmp_path / "model", template("<image>"))
    config = {"model_type": "qwen2_5_vl", "vision_config": {"model_type": "qwen2_5_vl"}, "text_config": {}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "processor_config.json").write_text(
        json.dumps(
            {
                "processor_class": "Qwen2_5_VLProcessor",
                "image_processor": {"image_processor_type": "Qwen2VLImageProcessor"},
                "video_processor": {"video_processor_type": "Qwen2VLVideoProcessor"},
            }
        )
    )
    with pytest.raises(SettingError, match=r"needs torchvision, which is not installed; install the torchvision that"):
        encoder(model)


@WITHOUT_TORCHVISION
def test_a_model_that_needs_torchvision_ends_a_run_early(image_questions: Path, tmp_path: Path) -> None:
    model = gemma3(tmp_path / "model")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[policy]\nmodel = "{model}"\n[questions]\nsource = "jsonl"\npath = "{image_questions}"\n'
        "[teacher]\nenabled = false\n"
    )
    done = run_command("run", "--config", recipe, "--run-dir", tmp_path / "run", check=2)
    assert "vLLM's Gemma3ForConditionalGeneration needs torchvision, which is not installed" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
