"""Tiny models of the field's architectures through a whole round: encode, sample, score, train, publish, swap."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loop.config.load import load_config
from loop.planning.lengths import Questions, longest_of_questions
from loop.planning.model_shape import read_shape
from policies import PolicyError
from policies.encoding import Encoder, Prompt
from policies.learner.base import TrainingSettings
from policies.learner.dpo import Dpo
from policies.learner.items import PairItem
from policies.learner.learner import LocalLearner
from policies.probe import Before, prove
from policies.prompt import ChatSettings
from policies.sampler import Request
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings, VllmEngine
from tests.support.forked import run_forked
from tests.support.tiny_models import ARCHITECTURES, CONTEXT, Architecture, gemma3

pytestmark = pytest.mark.heavy

CHAT = ChatSettings("Look closely.", (("enable_thinking", False),))
SIZES = {"wide": (90, 40), "narrow": (33, 61), "square": (64, 64), "small": (40, 40), "other square": (64, 64)}
IMAGES = ((), ("square",), ("wide",), ("narrow", "small"), ("square", "wide", "narrow"), ("other square",))
TOLERANCE = 1e-5
KNOWN = {"llava_onevision": "several images", "gemma3": "images"}
"""Architectures whose prompts with these vLLM on a CPU does not read as transformers does (docs/models.md)."""


def picture(name: str) -> Image.Image:
    noise = Image.effect_noise(SIZES[name], 60).convert("RGB")
    noise.paste((200, 40, 40) if name.startswith("other") else (20, 30, 220), (5, 5, 30, 30))
    return noise


def prompts(name: str, sees: bool) -> list[Prompt]:
    """Prompts of several lengths with none, one and several images, of those that are read alike."""
    most = {"several images": 1, "images": 0}.get(KNOWN.get(name, ""), 3) if sees else 0
    images = [each for each in IMAGES if len(each) <= most] if sees else [()] * 3
    return [Prompt("What is there?" + " Look again." * n, each) for n, each in enumerate(images)]


def engine_of(directory: Path, encoder: Encoder) -> VllmEngine:
    settings = EngineSettings(
        dtype="float32", max_model_len=CONTEXT, max_num_seqs=16, kv_cache_gib=0.2, enforce_eager=True, max_images=3
    )
    return VllmEngine(str(directory), encoder, settings, 0)


def round_trip(name: str, folder: str) -> None:
    """Print what was found, as JSON: in a process of its own, since vLLM has one engine in a process's life."""
    architecture = next(each for each in ARCHITECTURES if each.name == name)
    directory = Path(folder) / "model"
    architecture.write(directory)
    encoder = Encoder(str(directory), cache(picture), chat_settings=CHAT)
    learner = LocalLearner(encoder)
    model = learner.load(directory)
    asked = prompts(name, architecture.sees)
    chains = [ScoredChain(p, tuple(encoder.completion_ids("teal square " * (1 + n)))) for n, p in enumerate(asked)]
    found: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    found["counted"] = [
        (
            len(encoder.expanded_prompt_ids(prompt)),
            len(encoder.prompt_ids(prompt)) + encoder.image_tokens(tuple(SIZES[image] for image in prompt.images)),
        )
        for prompt in asked
    ]
    before = [sum(tokens) for tokens in learner.token_logprobs(model, chains)]
    alone = [sum(learner.token_logprobs(model, [chain])[0]) for chain in chains]
    found["beside_others"] = max(abs(a - b) for a, b in zip(before, alone, strict=True))
    found["seen"] = [
        sum(learner.token_logprobs(model, [ScoredChain(Prompt("?", (image,)), chains[0].completion)])[0])
        for image in ("square", "other square")
    ]

    engine = engine_of(directory, encoder)
    engine.load_weights(directory)
    engine_before = engine.score([c.prompt for c in chains], [c.completion for c in chains])
    found["first_proof"] = prove(before, engine_before, chains, TOLERANCE).difference
    sampled = list(engine.sample([Request(n, prompt, 1.0, 8, seed=n) for n, prompt in enumerate(asked)]))
    found["sampled"] = len(sampled)

    items = [
        PairItem(prompt, tuple(encoder.completion_ids("teal")), tuple(encoder.completion_ids("a red circle")))
        for prompt in asked
    ]
    settings = TrainingSettings(learning_rate=1e-2, epochs=1, batch_size=len(items), seed=0)
    trained = learner.train(Dpo(), model, items, settings, Path(folder) / "work", lambda *_: None)
    found |= {"steps": trained.steps, "loss": trained.loss}
    after = [sum(tokens) for tokens in learner.token_logprobs(trained.model, chains)]
    published = Path(folder) / "0001"
    digest = learner.publish(trained.model, published)
    found["same_sha256"] = engine.load_weights(published) == digest
    engine_after = engine.score([c.prompt for c in chains], [c.completion for c in chains])
    proof = prove(after, engine_after, chains, TOLERANCE, Before(before, engine_before, lambda: 1.0))
    found |= {"second_proof": proof.difference, "moved": proof.moved, "told": proof.told}
    again = Encoder(str(published), cache(picture), chat_settings=CHAT)
    found["published_reads_alike"] = [again.expanded_prompt_ids(p) == encoder.expanded_prompt_ids(p) for p in asked]
    engine.close()
    print("\n" + json.dumps(found))


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda each: each.name)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    wanted: Architecture = request.param
    if wanted.missing:
        pytest.skip(f"{wanted.name} needs {' and '.join(wanted.missing)} (docs/models.md)")
    return wanted


@pytest.fixture(scope="module")
def found(architecture: Architecture, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = run_forked(round_trip, architecture.name, str(tmp_path_factory.mktemp(architecture.name)))
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_a_swap_of_trained_weights_is_proved(found: dict[str, Any]) -> None:
    assert found["parameters"] < 400_000
    assert found["first_proof"] < TOLERANCE
    assert (found["steps"], found["sampled"]) == (1, len(found["counted"]))
    assert found["same_sha256"]
    assert found["second_proof"] < TOLERANCE
    assert found["moved"] > 0.01
    assert found["told"]


def test_image_tokens_are_counted_alike(found: dict[str, Any]) -> None:
    assert all(expanded == counted for expanded, counted in found["counted"])
    assert all(found["published_reads_alike"])


def test_other_rows_of_a_batch_change_no_score(found: dict[str, Any]) -> None:
    assert found["beside_others"] < 2e-5


def test_what_an_image_shows_changes_the_scores(found: dict[str, Any], architecture: Architecture) -> None:
    one, other = found["seen"]
    assert (abs(one - other) > 1e-3) == architecture.sees


def test_memory_is_planned_of_the_right_shape(
    found: dict[str, Any], architecture: Architecture, tmp_path: Path
) -> None:
    directory = architecture.write(tmp_path / "model")
    shape = read_shape(str(directory))
    assert shape.count == found["parameters"]
    assert (shape.vision is not None) == architecture.sees
    encoder = Encoder(str(directory), picture)
    config = load_config("easy_vqa", [f'policy.model="{directory}"'])
    sizes = [((64, 64),)] if architecture.sees else []
    longest = longest_of_questions(config, encoder, Questions(["What is it?"], sizes), shape.patch_values)
    assert longest.patches >= 16 * len(sizes)


def read_by_engine(directory: str, images: str) -> None:
    """Sample for a prompt with these images, and print what is wrong with it."""
    encoder = Encoder(directory, cache(picture))
    engine = engine_of(Path(directory), encoder)
    prompt = Prompt("What is there?", tuple(images.split(",")))
    try:
        list(engine.sample([Request(0, prompt, 1.0, 4, seed=0)]))
        completion = tuple(encoder.completion_ids("teal"))
        learner = LocalLearner(encoder)
        items = [ScoredChain(prompt, completion)]
        scores = [sum(tokens) for tokens in learner.token_logprobs(learner.load(directory), items)]
        prove(scores, engine.score([prompt], [completion]), items, 1e-4)
    except PolicyError as error:
        print(f"\nrefused: {error}")


def refusal(name: str, images: str, folder: Path) -> str:
    architecture = next(each for each in ARCHITECTURES if each.name == name)
    if architecture.missing:
        pytest.skip(f"{name} needs {' and '.join(architecture.missing)} (docs/models.md)")
    architecture.write(folder / "model")
    return run_forked(read_by_engine, str(folder / "model"), images).stdout


def test_a_prompt_of_another_length_in_the_sampler_is_refused(tmp_path: Path) -> None:
    said = refusal("llava_onevision", "narrow,small", tmp_path)
    assert "refused: vLLM reads a prompt with 2 images as 151 token ids, the model's processor as 41" in said


def test_another_attention_to_images_does_not_pass_the_probe(tmp_path: Path) -> None:
    assert "refused: sampler and learner differ by 0." in refusal("gemma3", "square", tmp_path)


def test_a_processor_unlike_its_model_is_named_with_both_counts(tmp_path: Path) -> None:
    directory = gemma3(tmp_path / "model")
    file = directory / "processor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_seq_length": 9}))
    encoder = Encoder(str(directory), picture)
    learner = LocalLearner(encoder)
    chain = ScoredChain(Prompt("What is there?", ("square",)), tuple(encoder.completion_ids("teal")))
    with pytest.raises(PolicyError, match=r"tokens: 9, features: 4; its processor_config\.json is not of this model"):
        learner.token_logprobs(learner.load(directory), [chain])
