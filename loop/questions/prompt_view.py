"""A question as the model gets it: the prompt, its length, and the judge's verdict on the accepted answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from judges import Judge, find_judge, give_verdict
from loop.config.schema import Config
from policies.encoding import Encoder, Prompt
from store.image_decoding import read_image_size
from store.new_questions import NewQuestion

WRITTEN = {
    "hash": "### Answer: {}",
    "answer": "Answer: {}",
    "tag": "<answer>{}</answer>",
    "boxed": "\\boxed{{{}}}",
    "is": "The answer is {}.",
}
"""How each marker of `judges.extraction` is written."""

Sizes = tuple[tuple[int, int], ...]
"""(width, height) in pixels of each image."""


@dataclass(frozen=True)
class Example:
    """One question as it is asked. `chat` is the prompt in the model's own template, a placeholder for each image.

    `verdict` is the outcome that the question's judge gives the accepted answer itself, "" for one that asks a model.
    """

    where: str
    split: str
    kind: str | None
    style: str
    judge: str
    chat: str
    prompt_tokens: int
    image_tokens: int
    sizes: Sizes
    images: Sequence[str]
    answers: Sequence[str]
    shown: str
    verdict: str
    score: float

    def as_json(self) -> dict[str, Any]:
        """The same as a dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class Spread:
    """The median, the 99th percentile and the largest of some numbers."""

    p50: int
    p99: int
    most: int


def spread(values: Sequence[int]) -> Spread:
    """Median, 99th percentile and largest of at least one number.

    The p-th percentile is the smallest of the numbers that p percent of them do not exceed.
    """
    ordered = sorted(values)
    return Spread(ordered[(len(ordered) - 1) // 2], ordered[max(0, -(-len(ordered) * 99 // 100) - 1)], ordered[-1])


class PromptView:
    """Renders and measures prompts with one model's tokenizer and image processor."""

    def __init__(self, config: Config, encoder: Encoder) -> None:
        self._config, self._encoder = config, encoder

    def chat(self, text: str, images: int, style: str) -> str:
        """The prompt in a style's template, and that in the model's."""
        return self._encoder.chat(self._prompt(text, images, style))

    def prompt_tokens(self, text: str, images: int, style: str) -> int:
        """Token ids of the prompt, with one for each image."""
        return len(self._encoder.prompt_ids(self._prompt(text, images, style)))

    def image_tokens(self, sizes: Sizes) -> int:
        """Token ids that the images add. Raises ValueError for sizes that the processor does not take."""
        return self._encoder.image_tokens(sizes)

    def answer_tokens(self, answers: Sequence[str]) -> int:
        """Token ids of the longest accepted answer, its end token included."""
        return max((len(self._encoder.completion_ids(answer)) for answer in answers), default=0)

    def example(
        self,
        *,
        where: str,
        split: str,
        kind: str | None,
        text: str,
        answers: Sequence[str],
        choices: Sequence[str],
        judge: str,
        sizes: Sizes,
        images: Sequence[str],
        style: str,
    ) -> Example:
        """A question's prompt in a style, with the verdict on its accepted answer."""
        shown, outcome, score = verdict_on_accepted(find_judge(judge), answers, choices, style)
        return Example(
            where,
            split,
            kind,
            style,
            judge,
            self.chat(text, len(sizes), style),
            self.prompt_tokens(text, len(sizes), style),
            self.image_tokens(sizes),
            sizes,
            images,
            list(answers),
            shown,
            outcome,
            score,
        )

    def example_of(self, question: NewQuestion, style: str) -> Example:
        """An example of a question that is not in a store yet."""
        return self.example(
            where=question.where,
            split=question.split,
            kind=question.kind,
            text=question.text,
            answers=question.answers,
            choices=question.choices,
            judge=question.judge,
            sizes=tuple(read_image_size(image, question.image_where) for image in question.images),
            images=question.digests,
            style=style,
        )

    def _prompt(self, text: str, images: int, style: str) -> Prompt:
        return Prompt(self._config.prompts.lay_out(style, text), ("",) * images)


def verdict_on_accepted(
    judge: Judge, answers: Sequence[str], choices: Sequence[str], style: str
) -> tuple[str, str, float]:
    """An answer that only gives the most common accepted one, the judge's outcome for it, and its score.

    A judge that calls it wrong would call every right answer wrong. A judge that asks a model gives no outcome here.
    """
    if not answers:
        return "", "", 0.0
    accepted = Counter(answers).most_common(1)[0][0]
    if judge.rule.name == "preference":
        text = WRITTEN["tag"].format(accepted)
    elif style == "cot":
        marker = judge.markers[0].split("|")[0]
        text = WRITTEN["hash" if marker == "answer" else marker].format(accepted)
    else:
        text = accepted
    if judge.rule.name == "llm":
        return text, "", 0.0
    verdict = give_verdict(
        judge, text, answers, finish_reason="stop", needs_marker=style == "cot", choices=tuple(choices)
    )
    return text, verdict.outcome, verdict.score
