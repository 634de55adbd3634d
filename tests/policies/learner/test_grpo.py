"""GRPO on completions that exist: gradients equal a plain-torch oracle's, and those of TRL's own path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from policies.encoding import Encoder, Prompt
from policies.learner.base import TrainingSettings
from policies.learner.grpo import Grpo
from policies.learner.items import GrpoItem
from policies.learner.learner import LocalLearner
from policies.verifier import ScoredChain, token_logprobs
from tests.support.command_line import BASE_MODEL

pytestmark = pytest.mark.heavy

LOSSES = ("dapo", "grpo", "dr_grpo", "gspo", "cispo")
MAX_TOKENS = 24
ONE_STEP = TrainingSettings(learning_rate=1e-9, epochs=1, batch_size=3, accumulation=3, seed=0, max_grad_norm=1e9)
"""Eight items make one optimizer step of three batches, the last of which is short."""

WORDS = ("teal", "a red circle", "yes", "no, it is blue", "brown", "gray triangle there", "no", "yellow")
ADVANTAGES = (1.2, -0.7, 0.4, -1.5, 0.9, 0.3, -0.2, 1.0)


@dataclass(frozen=True)
class Watched(Grpo):
    """GRPO whose gradients are kept before the optimizer takes them."""

    seen: dict[str, torch.Tensor] = field(default_factory=dict)

    def trainer(self, **common: Any) -> GRPOTrainer:
        trainer = super().trainer(**common)
        trainer.add_callback(KeepGradients(self.seen))
        return trainer


class KeepGradients(TrainerCallback):  # type: ignore[misc]
    def __init__(self, seen: dict[str, torch.Tensor]) -> None:
        self.seen = seen

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        for name, parameter in parts["model"].named_parameters():
            if parameter.grad is not None:
                self.seen[name] = self.seen.get(name, 0.0) + parameter.grad.clone()


def picture(digest: str) -> Image.Image:
    return Image.new("RGB", (64, 64), digest)


@pytest.fixture(scope="module")
def text_encoder(text_model: Path) -> Encoder:
    return Encoder(str(text_model), picture)


@pytest.fixture(scope="module")
def vision_encoder() -> Encoder:
    return Encoder(str(BASE_MODEL), picture)


def items(encoder: Encoder, model: Any, images: Sequence[tuple[str, ...]] = ((),)) -> list[GrpoItem]:
    """Eight completions after prompts of unequal length; their old probabilities are far enough off to be clipped."""
    made = []
    generator = torch.Generator().manual_seed(0)
    for n, (words, advantage) in enumerate(zip(WORDS, ADVANTAGES, strict=True)):
        prompt = Prompt("What is there?" + " Look again." * (n % 3), images[n % len(images)])
        completion = tuple(encoder.completion_ids(words))
        (now,) = token_logprobs(model, encoder, [ScoredChain(prompt, completion)])
        noise = 0.4 * torch.randn(len(now), generator=generator)
        old = tuple((torch.tensor(now) + noise).tolist())
        made.append(GrpoItem(prompt, completion, advantage, old))
    return made


def logprobs(model: Any, encoder: Encoder, item: GrpoItem) -> torch.Tensor:
    """Log-probabilities of one completion's tokens, with their gradient."""
    batch = encoder.batch([item.prompt], [item.completion])
    own = batch.pop("completion_mask")[0, 1:].bool()
    logits = model(**batch).logits[0, :-1][own]
    return torch.log_softmax(logits, -1).gather(-1, batch["input_ids"][0, 1:][own][:, None])[:, 0]


def oracle(loss: str, beta: float, model: Any, encoder: Encoder, made: Sequence[GrpoItem]) -> torch.Tensor:
    """The loss of one optimizer step over all items, written down from the papers."""
    sums, tokens = [], sum(len(item.completion) for item in made)
    for item in made:
        now, old = logprobs(model, encoder, item), torch.tensor(item.old)
        ratio = (now - old).exp()
        if loss == "gspo":
            ratio = (now - old).mean().exp().expand(len(now))
        if loss == "cispo":
            each = -ratio.clamp(max=5.0).detach() * item.advantage * now
        else:
            each = -torch.min(ratio * item.advantage, ratio.clamp(0.8, 1.28) * item.advantage)
        if beta:
            away = torch.tensor(item.reference) - now
            each = each + beta * ratio * (away.exp() - away - 1)
        scale = {"dapo": tokens, "cispo": tokens, "dr_grpo": len(made) * MAX_TOKENS}
        sums.append(each.sum() / scale.get(loss, len(made) * len(now)))
    return torch.stack(sums).sum()


def relative(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    difference = sum(((found[name] - value) ** 2).sum() for name, value in expected.items())
    size = sum((value**2).sum() for value in expected.values())
    return float((difference / size) ** 0.5)


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def trained_gradients(
    grpo: Watched, encoder: Encoder, model: Any, made: Sequence[GrpoItem], folder: Path, settings: TrainingSettings
) -> dict[str, torch.Tensor]:
    result = LocalLearner(encoder).train(grpo, model, made, settings, folder, lambda *_: None)
    assert result.steps == 1
    return grpo.seen


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_equal_the_oracle_with_clipping(
    loss: str, text_model: Path, text_encoder: Encoder, tmp_path: Path
) -> None:
    learner = LocalLearner(text_encoder)
    model = learner.load(text_model).eval()
    made = items(text_encoder, model)
    expected = gradients(model, oracle(loss, 0.0, model, text_encoder, made))
    assert any(abs(o - n) > 0.25 for i in made for o, n in zip(i.old, now(model, text_encoder, i), strict=True))
    grpo = Watched(loss=loss, max_tokens=MAX_TOKENS)
    found = trained_gradients(grpo, text_encoder, model, made, tmp_path, ONE_STEP)
    assert relative(found, expected) < 1e-4


def now(model: Any, encoder: Encoder, item: GrpoItem) -> list[float]:
    return list(token_logprobs(model, encoder, [ScoredChain(item.prompt, item.completion)])[0])


def test_gradients_equal_the_oracle_with_0_1_and_2_images(vision_encoder: Encoder, tmp_path: Path) -> None:
    learner = LocalLearner(vision_encoder)
    model = learner.load(BASE_MODEL).eval()
    made = items(vision_encoder, model, ((), ("red",), ("blue", "teal")))
    expected = gradients(model, oracle("dapo", 0.0, model, vision_encoder, made))
    grpo = Watched(max_tokens=MAX_TOKENS)
    found = trained_gradients(grpo, vision_encoder, model, made, tmp_path, ONE_STEP)
    assert relative(found, expected) < 1e-4


def test_the_kl_term_is_to_the_reference(text_model: Path, text_encoder: Encoder, tmp_path: Path) -> None:
    learner = LocalLearner(text_encoder)
    model, reference = learner.load(text_model).eval(), learner.load(text_model).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.mul_(1.05)
    made = items(text_encoder, model)
    known = [replace(item, reference=tuple(now(reference, text_encoder, item))) for item in made]
    expected = gradients(model, oracle("dapo", 0.3, model, text_encoder, known))
    without = gradients(model, oracle("dapo", 0.0, model, text_encoder, known))
    assert relative(without, expected) > 0.01
    grpo = Watched(beta=0.3, max_tokens=MAX_TOKENS)
    found = trained_gradients(grpo, text_encoder, model, known, tmp_path, ONE_STEP)
    assert relative(found, expected) < 1e-4


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_equal_those_of_trls_own_path(
    loss: str, text_model: Path, text_encoder: Encoder, tmp_path: Path
) -> None:
    """TRL's path as `_generate_and_score_completions` hands it to the loss: prompts padded left, no old ratio."""
    learner = LocalLearner(text_encoder)
    model = learner.load(text_model).eval()
    made = [replace(item, old=()) for item in items(text_encoder, model)]
    grpo = Watched(loss=loss, max_tokens=MAX_TOKENS)
    settings = replace(ONE_STEP, batch_size=len(made), accumulation=1)
    found = trained_gradients(grpo, text_encoder, model, made, tmp_path, settings)

    other = learner.load(text_model).eval()
    arguments = {**grpo.arguments(), "num_generations": len(made), "steps_per_generation": 1}
    trainer = GRPOTrainer(
        model=other,
        reward_funcs=lambda **_: [],
        args=GRPOConfig(
            str(tmp_path),
            per_device_train_batch_size=len(made),
            bf16=False,
            use_cpu=True,
            report_to="none",
            **arguments,
        ),
        train_dataset=Dataset.from_list([{"prompt": "unused"}]),
        processing_class=text_encoder.processor,
    )
    trainer.current_gradient_accumulation_steps = 1
    inputs = as_trl_makes_them(text_encoder, made)
    expected = gradients(other, trainer._compute_loss(other, inputs))
    assert relative(found, expected) < 1e-4


def as_trl_makes_them(encoder: Encoder, made: Sequence[GrpoItem]) -> dict[str, Any]:
    prompts = [torch.tensor(encoder.prompt_ids(item.prompt)) for item in made]
    completions = [torch.tensor(item.completion) for item in made]
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([each.flip(0) for each in prompts], batch_first=True).flip(1)
    mask = pad([torch.ones_like(each) for each in prompts], batch_first=True).flip(1)
    completion_mask = pad([torch.ones_like(each) for each in completions], batch_first=True)
    return {
        "prompt_ids": ids,
        "prompt_mask": mask,
        "completion_ids": pad(completions, batch_first=True),
        "completion_mask": completion_mask,
        "advantages": torch.tensor([item.advantage for item in made]),
        "num_items_in_batch": completion_mask.sum(),
    }


@pytest.mark.parametrize("change", [{"lora_rank": 4}, {"epochs": 3.0}, {"frozen": ("embed_tokens",)}])
def test_adapters_epochs_and_frozen_parts_work_with_grpo(
    change: dict[str, Any], text_model: Path, text_encoder: Encoder, tmp_path: Path
) -> None:
    learner = LocalLearner(text_encoder)
    model = learner.load(text_model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    made = [replace(item, old=()) for item in items(text_encoder, model)]
    settings = replace(ONE_STEP, learning_rate=1e-3, accumulation=1, **change)
    result = learner.train(Grpo(max_tokens=MAX_TOKENS), model, made, settings, tmp_path, lambda *_: None)
    after = dict(result.model.named_parameters())
    assert after.keys() == before.keys()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert not any(part in name for name in moved for part in change.get("frozen", ()))


def raised(model: Any, encoder: Encoder, made: Sequence[GrpoItem]) -> Callable[[Any], float]:
    """By how much advantages and changes of log-probability agree."""
    first = [sum(now(model, encoder, item)) for item in made]
    return lambda later: sum(
        item.advantage * (sum(now(later, encoder, item)) - old) for item, old in zip(made, first, strict=True)
    )


def test_completions_with_a_positive_advantage_become_likelier(
    text_model: Path, text_encoder: Encoder, tmp_path: Path
) -> None:
    learner = LocalLearner(text_encoder)
    model = learner.load(text_model)
    made = [replace(item, old=()) for item in items(text_encoder, model)]
    agreement = raised(model, text_encoder, made)
    settings = replace(ONE_STEP, learning_rate=1e-3, accumulation=1)
    result = learner.train(Grpo(max_tokens=MAX_TOKENS), model, made, settings, tmp_path, lambda *_: None)
    assert agreement(result.model) > 0.0
