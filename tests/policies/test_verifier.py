"""Log-probabilities by the learner: those of the model's own logits, without ever having all of them in memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from policies import PolicyError
from policies.encoding import Encoder, Prompt
from policies.learner.learner import LocalLearner
from policies.verifier import LOGITS, ScoredChain, token_logprobs
from tests.support.command_line import BASE_MODEL

pytestmark = pytest.mark.heavy

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
}


def picture(digest: str) -> Image.Image:
    return Image.new("RGB", (64, 64), digest)


@pytest.fixture(scope="module")
def encoder(text_model: Path) -> Encoder:
    return Encoder(str(text_model), picture)


def chains(encoder: Encoder, images: tuple[str, ...] = ()) -> list[ScoredChain]:
    """More than a batch, of unequal length."""
    return [
        ScoredChain(Prompt("What?" + " Look." * (n % 3), images[: n % 3]), tuple(encoder.completion_ids("red " * n)))
        for n in range(1, 40)
    ]


def from_all_logits(model: Any, encoder: Encoder, chain: ScoredChain) -> torch.Tensor:
    batch = encoder.batch([chain.prompt], [chain.completion])
    batch.pop("completion_mask")
    logits = model(**batch).logits[0, -len(chain.completion) - 1 : -1].float()
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(chain.completion)[:, None])[:, 0]


def differences(model: Any, encoder: Encoder, made: list[ScoredChain]) -> list[float]:
    found = token_logprobs(model, encoder, made)
    with torch.no_grad():
        expected = [from_all_logits(model, encoder, chain) for chain in made]
    return [float((torch.tensor(f) - e).abs().max()) for f, e in zip(found, expected, strict=True)]


def test_they_are_those_of_all_logits(text_model: Path, encoder: Encoder) -> None:
    model = LocalLearner(encoder).load(text_model)
    assert max(differences(model, encoder, chains(encoder))) < 1e-5


def test_so_they_are_with_images() -> None:
    encoder = Encoder(str(BASE_MODEL), picture)
    assert max(differences(LocalLearner(encoder).load(BASE_MODEL), encoder, chains(encoder, ("red", "teal")))) < 1e-5


@pytest.mark.parametrize("kind", ["soft cap", "divided"])
def test_steps_after_the_output_layer_are_computed_too(encoder: Encoder, kind: str) -> None:
    torch.manual_seed(0)
    words = len(encoder.tokenizer)
    if kind == "soft cap":
        model: Any = Gemma2ForCausalLM(Gemma2Config(vocab_size=words, final_logit_softcapping=0.1, **TINY))
    else:
        model = GraniteForCausalLM(GraniteConfig(vocab_size=words, logits_scaling=8.0, **TINY))
    assert max(differences(model, encoder, chains(encoder))) < 1e-5


def test_an_architecture_that_does_something_else_is_refused(encoder: Encoder) -> None:
    class Squared(LlamaForCausalLM):  # type: ignore[misc]
        def forward(self, *arguments: Any, **options: Any) -> Any:
            output = super().forward(*arguments, **options)
            output.logits = output.logits**2 + 1
            return output

    model = Squared(LlamaConfig(vocab_size=len(encoder.tokenizer), **TINY))
    with pytest.raises(PolicyError, match="Squared changes its logits after the output layer"):
        token_logprobs(model, encoder, chains(encoder))


class LargestTensor(TorchDispatchMode):  # type: ignore[misc]
    """Keeps how many values the largest tensor has that anything computes."""

    values = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        found = function(*arguments, **(options or {}))
        if isinstance(found, torch.Tensor):
            self.values = max(self.values, found.numel())
        return found


def test_a_large_vocabulary_does_not_decide_the_peak(encoder: Encoder) -> None:
    words, tokens = 150_000, 400
    model = LlamaForCausalLM(LlamaConfig(vocab_size=words, **TINY))
    chain = ScoredChain(Prompt("What?"), tuple(encoder.completion_ids("red " * tokens)))
    assert len(chain.completion) * words > 1.5 * LOGITS
    with LargestTensor() as largest:
        token_logprobs(model, encoder, [chain] * 2)
    assert largest.values <= LOGITS
