"""The loop in one file: sample, judge, pair, update, swap and prove, evaluate, accept or roll back.

Sampler (vLLM), judges and learner (TRL) are those of the project. Left out are the store, continuing after a kill, the
teacher, counter-pairs, the sequential gate and the views. Run it by `python -m examples.minimal_loop [FOLDER]`.
"""

import hashlib
import io
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from judges import Output, find_judge, give_verdicts
from loop.config.questions import QuestionsConfig
from loop.questions.sources.easy_vqa import read_questions, write_rationale
from policies.encoding import Encoder, Prompt
from policies.learner.base import Algorithm, TrainingSettings
from policies.learner.dpo import Dpo
from policies.learner.items import PairItem, SftItem
from policies.learner.learner import LocalLearner
from policies.learner.sft import Sft
from policies.probe import probe_engine
from policies.sampler import Chain, Request
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings, VllmEngine

MODEL = Path(__file__).resolve().parent.parent / "models" / "shapes_2m"
TEMPLATE = "{question}\nReason first, then give a short answer after '### Answer:'."
MAX_TOKENS = 64
ENGINE = EngineSettings(dtype="float32", max_model_len=256, kv_cache_gib=1.0, enforce_eager=True)
COLD_START = TrainingSettings(learning_rate=5e-4, epochs=12, batch_size=32, seed=0)
IMITATION = TrainingSettings(learning_rate=2e-4, epochs=2, batch_size=32, seed=0)
PREFERENCE = TrainingSettings(learning_rate=1e-4, epochs=1, batch_size=32, seed=0)
TOLERANCE = 0.02
"""Largest difference between sampler and learner on the probe, in nats per token."""

Stage = tuple[Algorithm, Sequence[SftItem] | Sequence[PairItem], TrainingSettings]


@dataclass(frozen=True)
class Sizes:
    """Numbers of rationales, questions per round, chains per question, held-out questions and rounds."""

    rationales: int = 128
    questions: int = 1000
    samples: int = 6
    held_out: int = 500
    rounds: int = 3


@dataclass(frozen=True)
class Question:
    """A question with its image, and the accepted answer."""

    prompt: Prompt
    answer: str


class MinimalLoop:
    """One sampler, one learner, and a folder with the weights of every policy."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        self.images: dict[str, bytes] = {}
        # Sampler and learner share the encoder, so they agree on every token id.
        self.encoder = Encoder(str(MODEL), lambda digest: Image.open(io.BytesIO(self.images[digest])))
        self.sampler = VllmEngine(str(MODEL), self.encoder, ENGINE, seed=0)
        self.learner = LocalLearner(self.encoder)
        self.judge = find_judge("exact")

    def run(self) -> list[float]:
        """Train the cold start and the rounds; returns the accuracy of the served policy after each."""
        train, held_out, rationales = self.read()
        served = self.train("cold_start", MODEL, [(Sft(), rationales, COLD_START)], held_out)
        best = self.accuracy(held_out)
        print(f"cold start: {len(rationales)} rationales, {best:.1%} of {len(held_out)} held-out questions")
        accuracies = [best]
        for number in range(1, self.sizes.rounds + 1):
            asked = train[(number - 1) * self.sizes.questions : number * self.sizes.questions]
            right, pairs = self.pair(asked, self.sample(asked, number))
            stages: list[Stage] = [
                (Sft(), right, IMITATION),
                (Dpo(losses={"sigmoid": 0.3, "sft": 1.0}), pairs, PREFERENCE),
            ]
            candidate = self.train(f"round_{number}", served, stages, held_out)
            reached = self.accuracy(held_out)
            accepted = reached >= best  # the project's gate is a test on questions of its own
            print(f"round {number}: {len(right)} right chains, {len(pairs)} pairs, {reached:.1%}, accepted: {accepted}")
            if accepted:
                served, best = candidate, reached
            else:  # roll back
                self.sampler.load_weights(served)
            accuracies.append(best)
        self.sampler.close()
        return accuracies

    def read(self) -> tuple[list[Question], list[Question], list[SftItem]]:
        """Questions to learn from, held-out ones, and rationales written from the data set's annotations."""
        wanted = self.sizes.rounds * self.sizes.questions
        config = QuestionsConfig(source="easy_vqa", train_limit=2 * self.sizes.rationales + wanted)
        by_split, rationales = defaultdict[str, list[Question]](list), list[SftItem]()
        for row in read_questions(config):
            image = row.images[0]
            digest = hashlib.sha256(image).hexdigest()
            self.images[digest] = image
            question = Question(Prompt(TEMPLATE.format(question=row.text), (digest,)), row.answers[0])
            wants_rationale = row.split == "train" and len(rationales) < self.sizes.rationales
            text = write_rationale(row.text, row.answers[0], [digest]) if wants_rationale else None
            if text is None:
                by_split[row.split].append(question)
            else:
                rationales.append(SftItem(question.prompt, tuple(self.encoder.completion_ids(text))))
        return by_split["train"][:wanted], by_split["test"][: self.sizes.held_out], rationales

    def sample(self, questions: Sequence[Question], number: int) -> list[list[Chain]]:
        """Chains of each question from the policy that the sampler holds; a seed depends on its request only."""
        requests = [
            Request((n, index), question.prompt, 1.0, MAX_TOKENS, seed=hash((number, n, index)) % 2**31)
            for n, question in enumerate(questions)
            for index in range(self.sizes.samples)
        ]
        chains: list[list[Chain]] = [[] for _ in questions]
        for chain in self.sampler.sample(requests):  # in the order in which they finish
            assert isinstance(chain.key, tuple)
            chains[chain.key[0]].append(chain)
        return chains

    def outcomes(self, question: Question, chains: Sequence[Chain]) -> list[str]:
        """The verdicts on a question's chains: "correct", "wrong", "unparsable", "truncated"."""
        outputs = [Output(chain.text, [question.answer], (), chain.finish_reason, True) for chain in chains]
        return [verdict.outcome for verdict in give_verdicts(self.judge, outputs)]

    def pair(
        self, questions: Sequence[Question], chains: Sequence[Sequence[Chain]]
    ) -> tuple[list[SftItem], list[PairItem]]:
        """The likeliest right chain of each question, and pairs of it and the likeliest wrong one."""
        right_items, pairs = list[SftItem](), list[PairItem]()
        for question, own in zip(questions, chains, strict=True):
            # A chain with an image token inside cannot be trained on.
            usable = sorted(
                (chain for chain in own if self.encoder.is_plain(chain.token_ids)), key=lambda c: -c.logprob
            )
            judged = list(zip(usable, self.outcomes(question, usable), strict=True))
            right = next((chain for chain, outcome in judged if outcome == "correct"), None)
            wrong = next((chain for chain, outcome in judged if outcome == "wrong"), None)
            if right is not None:
                right_items.append(SftItem(question.prompt, right.token_ids))
            if right is not None and wrong is not None:
                pairs.append(PairItem(question.prompt, right.token_ids, wrong.token_ids))
        return right_items, pairs

    def train(
        self,
        name: str,
        start: Path,
        stages: Sequence[Stage],
        held_out: Sequence[Question],
    ) -> Path:
        """Train a candidate from the weights in `start`, publish it, and put it into the sampler, proved twice."""
        model = self.learner.load(start)
        for algorithm, items, settings in stages:
            if items:
                work = self.folder / "training" / f"{name}_{type(algorithm).__name__}"
                model = self.learner.train(algorithm, model, items, settings, work, lambda *_: None).model
        probe = [ScoredChain(each.prompt, tuple(self.encoder.completion_ids(each.answer))) for each in held_out[:8]]
        scores = [sum(tokens) for tokens in self.learner.token_logprobs(model, probe)]
        published = self.learner.publish(model, self.folder / name)
        if self.sampler.load_weights(self.folder / name) != published:
            raise SystemExit(f"{name}: the sampler loaded other bytes than were published")
        probe_engine(self.sampler, scores, probe, TOLERANCE)  # raises ProbeFailed if the two disagree
        return self.folder / name

    def accuracy(self, questions: Sequence[Question]) -> float:
        """The share of questions that the policy in the sampler answers right, greedily."""
        requests = [Request(n, question.prompt, 0.0, MAX_TOKENS) for n, question in enumerate(questions)]
        chains = {chain.key: chain for chain in self.sampler.sample(requests)}
        outcomes = [self.outcomes(question, [chains[n]])[0] for n, question in enumerate(questions)]
        return outcomes.count("correct") / len(outcomes)


if __name__ == "__main__":
    MinimalLoop(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/minimal"), Sizes()).run()
