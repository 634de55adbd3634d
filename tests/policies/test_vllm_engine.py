"""The real vLLM engine: swaps in place, caches cleared, the probe agrees, mismatches are caught."""

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from base_model.scenes import draw_scene
from policies import PolicyError
from policies.encoding import Encoder, Prompt
from policies.learner.base import TrainingSettings
from policies.learner.callbacks import TrainingDiverged
from policies.learner.dpo import Dpo
from policies.learner.items import PairItem, SftItem
from policies.learner.learner import LocalLearner
from policies.learner.sft import Sft
from policies.probe import largest_difference
from policies.sampler import Chain, Request
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings, VllmEngine
from policies.weights import HashedWeights, publish, weights_sha256
from tests.support.command_line import BASE_MODEL, copy_without

pytestmark = pytest.mark.heavy

SCENES = [draw_scene(random.Random(n)) for n in range(8)]
TEXT = "What color is it? Give a short answer."


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(BASE_MODEL), lambda name: SCENES[int(name)].image)


@pytest.fixture(scope="module")
def learner(encoder: Encoder) -> LocalLearner:
    return LocalLearner(encoder)


@pytest.fixture(scope="module")
def engine(encoder: Encoder) -> Iterator[VllmEngine]:
    settings = EngineSettings(
        dtype="float32", max_model_len=256, max_num_seqs=64, kv_cache_gib=0.5, enforce_eager=True, sleep=1
    )
    running = VllmEngine(str(BASE_MODEL), encoder, settings, 0)
    yield running
    running.close()


@pytest.fixture(scope="module")
def other_policy(encoder: Encoder, learner: LocalLearner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model trained to answer every image with 'teal'."""
    model = learner.load(BASE_MODEL)
    teal = tuple(encoder.completion_ids("teal"))
    items = [SftItem(Prompt(TEXT, (str(n),)), teal) for n in range(8)] * 8
    folder = tmp_path_factory.mktemp("policies")
    settings = TrainingSettings(learning_rate=1e-3, epochs=3, batch_size=16, seed=0)
    result = learner.train(Sft(), model, items, settings, folder / "work", lambda *_: None)
    learner.publish(result.model, folder / "0001")
    return folder / "0001"


def no_image(name: str) -> Any:
    raise AssertionError("no image is asked for")


def requests(temperature: float = 0.0, copies: int = 1) -> list[Request]:
    return [
        Request((n, copy), Prompt(TEXT, (str(n),)), temperature, 8, seed=copy)
        for n in range(8)
        for copy in range(copies)
    ]


def answers(engine: VllmEngine, temperature: float = 0.0, copies: int = 1) -> dict[Any, Chain]:
    return {chain.key: chain for chain in engine.sample(requests(temperature, copies))}


def logprobs(learner: LocalLearner, model: Any, items: Sequence[ScoredChain]) -> list[float]:
    return [sum(each) for each in learner.token_logprobs(model, items)]


def probe() -> list[ScoredChain]:
    return [ScoredChain(Prompt(TEXT, (str(n),)), (60 + n, 117, 200)) for n in range(4)]


def test_the_base_model_sees_colors(engine: VllmEngine) -> None:
    engine.load_weights(BASE_MODEL)
    found = answers(engine)
    assert sum(found[n, 0].text == SCENES[n].color for n in range(8)) >= 7


def test_an_eager_engine_compiles_nothing(engine: VllmEngine) -> None:
    engine.score([Prompt("What is there?")], [(5, 6)])
    assert not torch._dynamo.utils.counters["stats"]


def test_an_engine_that_cannot_sleep_here_starts_and_says_so(engine: VllmEngine) -> None:
    assert engine.can_sleep == torch.cuda.is_available()


def test_a_swap_changes_answers_on_images_seen_before(engine: VllmEngine, other_policy: Path) -> None:
    engine.load_weights(BASE_MODEL)
    before = answers(engine)
    assert engine.load_weights(other_policy) == weights_sha256(other_policy)
    swapped = answers(engine)
    assert {chain.text for chain in swapped.values()} == {"teal"}
    engine.load_weights(BASE_MODEL)
    assert {k: c.text for k, c in answers(engine).items()} == {k: c.text for k, c in before.items()}


def test_a_policy_in_many_files_is_published_swapped_and_proved(
    engine: VllmEngine, learner: LocalLearner, other_policy: Path, encoder: Encoder, tmp_path: Path
) -> None:
    sharded = tmp_path / "sharded"
    digest = publish(learner.load(other_policy), encoder.processor, sharded, shard_size="1MB")
    assert len(list(sharded.glob("*.safetensors"))) > 4
    engine.load_weights(BASE_MODEL)
    assert engine.load_weights(sharded) == digest == weights_sha256(sharded)
    items = probe()
    learned = logprobs(learner, learner.load(sharded), items)
    scores = engine.score([i.prompt for i in items], [i.completion for i in items])
    assert largest_difference(learned, scores, items) < 1e-3
    assert {chain.text for chain in answers(engine).values()} == {"teal"}


def test_after_each_swap_sampler_and_learner_agree_on_the_probe(
    engine: VllmEngine, other_policy: Path, learner: LocalLearner
) -> None:
    items = probe()
    scores = {}
    for directory in (BASE_MODEL, other_policy, BASE_MODEL):
        engine.load_weights(directory)
        learned = logprobs(learner, learner.load(directory), items)
        scores[directory] = engine.score([i.prompt for i in items], [i.completion for i in items])
        assert largest_difference(learned, scores[directory], items) < 1e-3
    assert largest_difference(scores[BASE_MODEL], scores[other_policy], items) > 0.1


def test_sampled_log_probabilities_are_those_of_the_learner(engine: VllmEngine, learner: LocalLearner) -> None:
    engine.load_weights(BASE_MODEL)
    asked = requests(1.0, 2)
    found = {chain.key: chain for chain in engine.sample(asked)}
    chains = [found[request.key] for request in asked]
    items = [ScoredChain(request.prompt, chain.token_ids) for request, chain in zip(asked, chains, strict=True)]
    learned = logprobs(learner, learner.load(BASE_MODEL), items)
    assert largest_difference(learned, [chain.logprob for chain in chains], items) < 1e-3


def test_equal_seeds_give_equal_chains_whatever_else_is_running(engine: VllmEngine) -> None:
    engine.load_weights(BASE_MODEL)
    everything = answers(engine, 1.0, 4)
    alone = {chain.key: chain for chain in engine.sample(requests(1.0, 4)[5:9])}
    assert all(everything[key].token_ids == chain.token_ids for key, chain in alone.items())


def test_abandoning_sampling_leaves_the_engine_usable(engine: VllmEngine) -> None:
    engine.load_weights(BASE_MODEL)
    next(engine.sample(requests(1.0, 8)))
    assert len(answers(engine)) == 8


def test_encoder_and_engine_expand_a_prompt_to_equal_ids(engine: VllmEngine, encoder: Encoder) -> None:
    hostile = Prompt("<image><|assistant|> is <image> a trick?", ("0",))
    assert encoder.expanded_prompt_ids(hostile).count(encoder.tokenizer.convert_tokens_to_ids("<image>")) == 4
    assert len(engine.score([hostile], [(7, 8)])) == 1


def test_special_tokens_spelled_out_by_others_are_words(encoder: Encoder) -> None:
    ids = encoder.completion_ids("<image> yes<end_of_utterance>")
    assert encoder.is_plain(ids)
    assert not encoder.is_plain([encoder.tokenizer.convert_tokens_to_ids("<image>"), ids[-1]])


def test_a_prompt_too_long_is_named_with_the_key_to_raise(engine: VllmEngine) -> None:
    long = Request((77, 0), Prompt("word " * 400), 0.0, 8)
    with pytest.raises(PolicyError, match=r"\(77, 0\).*engine\.max_model_len"):
        list(engine.sample([long]))


def fits_without_its_image(encoder: Encoder) -> str:
    """A text of fewer than 256 tokens that has 256 or more once its image is expanded."""
    text = "a"
    while len(encoder.expanded_prompt_ids(Prompt(text, ("0",)))) < 256:
        text += " a"
    assert len(encoder.prompt_ids(Prompt(text, ("0",)))) < 256
    return text


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_refused_prompt_leaves_its_image_usable(engine: VllmEngine, encoder: Encoder, when: str) -> None:
    engine.load_weights(BASE_MODEL)  # and no image is known
    refused: list[tuple[Any, str]] = []
    asked = requests()
    text = "word " * 400 if when == "before" else fits_without_its_image(encoder)
    long = [Request((100 + n, 0), Prompt(text, (str(n),)), 0.0, 8) for n in range(8)]
    mixed = [each for pair in zip(long, asked, strict=True) for each in pair]
    found = {
        chain.key: chain for chain in engine.sample(mixed, lambda request, why: refused.append((request.key, why)))
    }
    assert [key for key, _ in refused] == [request.key for request in long]
    assert all("256" in why and "\n" not in why for _, why in refused)
    assert {key: chain.text for key, chain in found.items()} == {k: c.text for k, c in answers(engine).items()}


def test_an_engine_longer_than_its_model_names_the_key(encoder: Encoder) -> None:
    settings = EngineSettings(dtype="float32", max_model_len=100_000, kv_cache_gib=0.1, enforce_eager=True)
    with pytest.raises(PolicyError, match=r"engine\.max_model_len = 100000: [^\n]*max_model_len") as raised:
        VllmEngine(str(BASE_MODEL), encoder, settings, 0)
    assert "\n" not in str(raised.value)
    assert encoder.context_length == 512


def test_weights_that_were_altered_hash_differently(other_policy: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(other_policy, altered)
    file = altered / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    weights = HashedWeights(altered)
    assert dict(weights)
    assert weights.sha256 == weights_sha256(altered) != weights_sha256(other_policy)


@pytest.mark.parametrize("missing", ["tokenizer.json", "processor_config.json", "config.json", "chat_template.jinja"])
def test_an_incomplete_model_is_refused_by_its_missing_file(tmp_path: Path, missing: str) -> None:
    with pytest.raises(PolicyError, match=missing.replace(".", r"\.")):
        Encoder(str(copy_without(tmp_path / "model", missing)), no_image)


def test_publishing_replaces_a_leftover_and_leaves_no_temporary(tmp_path: Path, learner: LocalLearner) -> None:
    (tmp_path / "0001").mkdir()
    (tmp_path / "0001" / "half.safetensors").write_bytes(b"half")
    (tmp_path / "0001.tmp").mkdir()
    model = learner.load(BASE_MODEL)
    digest = learner.publish(model, tmp_path / "0001")
    assert [path.name for path in tmp_path.iterdir()] == ["0001"]
    assert digest == weights_sha256(tmp_path / "0001")
    Encoder(str(tmp_path / "0001"), no_image)


def test_dpo_raises_the_margin_of_chosen_over_rejected(encoder: Encoder, tmp_path: Path, learner: LocalLearner) -> None:
    pairs = [
        PairItem(
            Prompt(TEXT, (str(n),)),
            tuple(encoder.completion_ids("blue")),
            tuple(encoder.completion_ids(SCENES[n].color)),
        )
        for n in range(8)
        if SCENES[n].color != "blue"
    ]
    chosen = [ScoredChain(p.prompt, p.chosen) for p in pairs]
    rejected = [ScoredChain(p.prompt, p.rejected) for p in pairs]
    model = learner.load(BASE_MODEL)

    def margin() -> float:
        right, wrong = (logprobs(learner, model, side) for side in (chosen, rejected))
        return sum(right) - sum(wrong)

    before = margin()
    settings = TrainingSettings(learning_rate=1e-4, epochs=4, batch_size=4, seed=0)
    result = learner.train(Dpo(), model, pairs, settings, tmp_path, lambda *_: None)
    assert result.steps == 4 * -(-len(pairs) // 4)
    assert margin() > before


def test_a_destructive_learning_rate_is_noticed(encoder: Encoder, tmp_path: Path, learner: LocalLearner) -> None:
    items = [SftItem(Prompt(TEXT, (str(n),)), tuple(encoder.completion_ids("teal"))) for n in range(8)]
    for epochs, found in (
        (4, r"the loss is (nan|inf) at step \d of 8 \(learning rate 1e\+38\)"),
        (0.5, "is not finite"),
    ):
        settings = TrainingSettings(1e38, epochs, 4, 0, max_grad_norm=1e30, warmup_ratio=0.0, scheduler="constant")
        with pytest.raises(TrainingDiverged, match=f"training diverged: .*{found}"):
            learner.train(Sft(), learner.load(BASE_MODEL), items, settings, tmp_path, lambda *_: None)


def test_frozen_parts_do_not_move(encoder: Encoder, tmp_path: Path, learner: LocalLearner) -> None:
    model = learner.load(BASE_MODEL)
    before = {name: value.clone() for name, value in model.named_parameters()}
    settings = TrainingSettings(
        learning_rate=1e-3, epochs=1, batch_size=4, seed=0, frozen=("vision_model", "connector")
    )
    items = [SftItem(Prompt(TEXT, (str(n),)), tuple(encoder.completion_ids("teal"))) for n in range(8)]
    learner.train(Sft(), model, items, settings, tmp_path, lambda *_: None)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert not any("vision_model" in name or "connector" in name for name in moved)
    no_such = TrainingSettings(1e-3, 1, 4, 0, frozen=("nosuch",))
    with pytest.raises(PolicyError, match=r"frozen.*'nosuch'"):
        learner.train(Sft(), model, items, no_such, tmp_path, lambda *_: None)
