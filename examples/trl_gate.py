"""A gate and a best-of-N reader in a training by TRL: the best checkpoint is kept, a worse one is never the result.

    PYTHONPATH=. .venv/bin/python examples/trl_gate.py MODEL OUTPUT_DIR

MODEL is a causal language model with a chat template, a directory or a name on the hub. Every few steps the model
answers questions that it is not trained on; the gate compares it with the best so far, and at the end the best
weights are in OUTPUT_DIR/best.
"""

import argparse
import random
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from judges import find_judge, give_verdict
from loop.evaluation.for_trainers import gate, read_best_of

ASK = "What is {} + {}? End with '### Answer:' and the number."


def sums(count: int, seed: int) -> list[tuple[str, str]]:
    """Questions with their answers."""
    rng = random.Random(seed)
    pairs = [(rng.randrange(10), rng.randrange(10)) for _ in range(count)]
    return [(ASK.format(a, b), str(a + b)) for a, b in pairs]


class Gate(TrainerCallback):  # type: ignore[misc]
    """Judges the model on held-out questions every `every` steps, and saves it where it is the new best."""

    def __init__(self, tokenizer: Any, questions: list[tuple[str, str]], best: Path, every: int, tokens: int) -> None:
        self.tokenizer, self.questions, self.best, self.every, self.tokens = tokenizer, questions, best, every, tokens
        self.judge = find_judge("numeric")
        self.best_scores: list[float] | None = None
        self.decisions: list[str] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Score and save the model that the training begins with: it is the first best."""
        self.best_scores = self.scores(model)
        model.save_pretrained(self.best)
        self.tokenizer.save_pretrained(self.best)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """The gate: a candidate that is better takes the best one's place."""
        if state.global_step % self.every or self.best_scores is None:
            return
        scores = self.scores(model)
        result = gate(scores, self.best_scores, margin=0.02)
        self.decisions.append("best" if result.better else "accepted" if result.accepted else "rejected")
        print(f"step {state.global_step}: {self.decisions[-1]}, {result.reason}")
        if result.better:
            self.best_scores = scores
            model.save_pretrained(self.best)

    def scores(self, model: Any) -> list[float]:
        """1.0 for each question that the model answers rightly, greedily."""
        outputs = self.answers(model, [text for text, _ in self.questions])
        return [self.score(output, answer) for output, (_, answer) in zip(outputs, self.questions, strict=True)]

    def score(self, output: str, answer: str) -> float:
        """The score of one output."""
        return give_verdict(self.judge, output, [answer], finish_reason="stop", needs_marker=True).score

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def answers(self, model: Any, texts: list[str], samples: int = 1) -> list[str]:
        """`samples` outputs for each text, greedy where it is one."""
        was_training = model.training
        model.eval()
        self.tokenizer.padding_side = "left"
        chats = [[{"role": "user", "content": text}] for text in texts]
        prompts = [
            self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats
        ]
        batch = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        made = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=self.tokens,
            do_sample=samples > 1,
            num_return_sequences=samples,
        )
        model.train(was_training)
        return list(self.tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True))


def train(model_name: str, output: Path, steps: int, every: int, tokens: int) -> Gate:
    """Train on sums, with the gate; returns it with its decisions."""
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    rows = [
        {
            "prompt": [{"role": "user", "content": text}],
            "completion": [{"role": "assistant", "content": f"### Answer: {answer}"}],
        }
        for text, answer in sums(256, seed=1)
    ]
    kept = Gate(tokenizer, sums(40, seed=2), output / "best", every, tokens)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_name),
        args=SFTConfig(
            str(output / "trl"),
            max_steps=steps,
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            save_strategy="no",
            report_to="none",
            bf16=False,
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[kept],
    )
    trainer.train()
    return kept


def main() -> None:
    """Train, then answer one question by the vote of eight samples of the best weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=16)
    options = parser.parse_args()
    kept = train(options.model, options.output, options.steps, options.every, options.tokens)
    best = AutoModelForCausalLM.from_pretrained(options.output / "best")
    text, answer = sums(1, seed=3)[0]
    found = read_best_of(kept.answers(best, [text], samples=8), judge="numeric")
    print(f"{text} By vote: {found.majority} (right is {answer})")


if __name__ == "__main__":
    main()
