"""Published data sets by name: where each lies on the hub, its splits, columns, judge and prompt.

`questions.dataset = "chartqa"` fills in the keys of `[questions]` that the configuration leaves out. A benchmark is
evaluated from `benchmark`, whose prompt and length limit are those of lmms-eval 0.7.3 (`task`). That version reads the
sets of `lmms-lab/` from a mirror, `lmms-lab-encoder/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BY_LETTER = "\nAnswer with the option's letter from the given choices directly."
SHORT = "\nAnswer the question using a single word or phrase."
WITH_OPTIONS = ["{question}", "{choices}"]

Columns = Mapping[str, str | list[str]]
"""Part of a question -> a column, a template, or a list of such lines, as `loop/questions/columns.py` reads them."""


@dataclass(frozen=True)
class HubSet:
    """One set of the hub, as the keys of `[questions]` name it.

    `splits` has the loop's splits (train, gate, test) with the set's own names; where `gate` is left out its questions
    are drawn from `train`. `choices_judge` judges rows that have choices, `judge` the others. `answer_after` is the
    text after which a column's answer stands; `\\boxed` means the content of the last box.
    """

    path: str
    splits: Mapping[str, str]
    columns: Columns
    judge: str
    name: str | None = None
    choices_judge: str | None = None
    answer_after: str | None = None

    def keys(self) -> dict[str, Any]:
        """The keys of `[questions]` with their values; those that the set does not need are left out."""
        given = {
            "path": self.path,
            "name": self.name,
            "splits": dict(self.splits),
            "columns": dict(self.columns),
            "judge": self.judge,
            "choices_judge": self.choices_judge,
            "answer_after": self.answer_after,
        }
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True)
class KnownDataset:
    """A published set. `training` is None where it has no split to train on.

    `benchmark` has the split `test` that figures are published for; `prompt` is a template of style `direct`.
    """

    title: str
    benchmark: HubSet
    prompt: str
    max_tokens: int
    task: str | None
    """The task of lmms-eval with this prompt and split; None where it has none."""
    training: HubSet | None = field(default=None)


def _docvqa(name: str, splits: Mapping[str, str]) -> HubSet:
    columns = {"question": "question", "answer": "answers", "images": "image", "id": "questionId"}
    return HubSet("lmms-lab/DocVQA", splits, columns, "anls", name=name)


def _scienceqa(name: str) -> HubSet:
    return HubSet(
        "lmms-lab/ScienceQA",
        {"train": "train", "gate": "validation", "test": "test"},
        {
            "question": ["Context: {hint}", *WITH_OPTIONS],
            "choices": "choices",
            "answer_index": "answer",
            "images": "image",
            "kind": "subject",
        },
        "choice",
        name=name,
    )


A_OKVQA = HubSet(
    "HuggingFaceM4/A-OKVQA",
    # The answers of its own test split are not published.
    {"train": "train", "test": "validation"},
    {
        "question": WITH_OPTIONS,
        "choices": "choices",
        "answer_index": "correct_choice_idx",
        "images": "image",
        "id": "question_id",
    },
    "choice",
)
TEXTVQA = HubSet(
    "lmms-lab/textvqa",
    {"train": "train", "test": "validation"},
    {"question": "{question:capitalize}", "answer": "answers", "images": "image", "id": "question_id"},
    "textvqa",
)
GSM8K = HubSet(
    "openai/gsm8k",
    {"train": "train", "test": "test"},
    {"question": "question", "answer": "answer"},
    "numeric",
    name="main",
    answer_after="####",
)

KNOWN: dict[str, KnownDataset] = {
    "a_okvqa": KnownDataset("A-OKVQA, multiple choice", A_OKVQA, "{question}" + BY_LETTER, 16, None, A_OKVQA),
    "ai2d": KnownDataset(
        "AI2D",
        HubSet(
            "lmms-lab/ai2d",
            {"test": "test"},
            {
                "question": ["{question}", "{options}"],
                "choices": "options",
                "answer_index": "answer",
                "images": "image",
            },
            "choice",
        ),
        "{question}" + BY_LETTER,
        16,
        "ai2d",
    ),
    "chartqa": KnownDataset(
        "ChartQA",
        HubSet(
            "lmms-lab/ChartQA",
            {"test": "test"},
            {"question": "question", "answer": "answer", "images": "image", "kind": "type"},
            "chartqa",
        ),
        "{question}\nAnswer the question with a single word.",
        16,
        "chartqa",
        training=HubSet(
            "HuggingFaceM4/ChartQA",
            {"train": "train", "gate": "val", "test": "test"},
            {"question": "query", "answer": "label", "images": "image", "kind": "human_or_machine"},
            "chartqa",
        ),
    ),
    "docvqa": KnownDataset(
        "DocVQA",
        _docvqa("DocVQA", {"test": "validation"}),
        "{question}" + SHORT,
        32,
        "docvqa_val",
        training=HubSet(
            "HuggingFaceM4/DocumentVQA",
            # The answers of its own test split are not published.
            {"train": "train", "test": "validation"},
            {"question": "question", "answer": "answers", "images": "image", "id": "questionId"},
            "anls",
        ),
    ),
    "gsm8k": KnownDataset(
        "GSM8K", GSM8K, "Q: {question}\nA: Let's think step by step.", 512, "gsm8k_cot_zeroshot", GSM8K
    ),
    "infovqa": KnownDataset(
        "InfographicVQA",
        _docvqa("InfographicVQA", {"test": "validation"}),
        "{question}" + SHORT,
        32,
        "infovqa_val",
    ),
    "math": KnownDataset(
        "MATH",
        HubSet(
            "HuggingFaceH4/MATH-500",
            {"test": "test"},
            {"question": "problem", "answer": "answer", "id": "unique_id", "kind": "subject"},
            "math",
        ),
        "{question}",
        2048,
        "openai_math",
        training=HubSet(
            "DigitalLearningGmbH/MATH-lighteval",
            {"train": "train", "test": "test"},
            {"question": "problem", "answer": "solution", "kind": "type"},
            "math",
            answer_after="\\boxed",
        ),
    ),
    "mathvision": KnownDataset(
        "MATH-Vision",
        HubSet(
            "MathLLMs/MathVision",
            {"test": "test"},
            {
                "question": [
                    "{question}",
                    "Choices: {options}" + BY_LETTER.replace("Answer with", "Answer the question with"),
                ],
                "choices": "options",
                "answer": "answer",
                "images": "decoded_image",
                "id": "id",
                "kind": "subject",
            },
            "math",
            choices_judge="choice",
        ),
        'Please solve the problem step by step and put your answer in one "\\boxed{}".{question}',
        16384,
        "mathvision_test",
    ),
    "mathvista": KnownDataset(
        "MathVista, testmini",
        HubSet(
            "AI4Math/MathVista",
            {"test": "testmini"},
            {
                # The set's own prompt: a hint of the answer's form, the question, its unit and its choices.
                "question": "query",
                "choices": "choices",
                "answer": "answer",
                "images": "decoded_image",
                "id": "pid",
                "kind": "question_type",
            },
            "numeric",
            choices_judge="choice",
        ),
        "{question}",
        16384,
        "mathvista_testmini_cot",
    ),
    "mmstar": KnownDataset(
        "MMStar",
        HubSet(
            "Lin-Chen/MMStar",
            {"test": "val"},
            {"question": "question", "answer": "answer", "images": "image", "id": "index", "kind": "category"},
            "choice",
        ),
        "{question}\nAnswer with the option's letter from the given choices directly",
        16,
        "mmstar",
    ),
    "scienceqa": KnownDataset(
        "ScienceQA",
        _scienceqa("ScienceQA-FULL"),
        "{question}" + BY_LETTER,
        16,
        "scienceqa",
        training=_scienceqa("ScienceQA-FULL"),
    ),
    "scienceqa_img": KnownDataset(
        "ScienceQA, questions with an image",
        _scienceqa("ScienceQA-IMG"),
        "{question}" + BY_LETTER,
        16,
        "scienceqa_img",
        training=_scienceqa("ScienceQA-IMG"),
    ),
    "textvqa": KnownDataset("TextVQA", TEXTVQA, "{question}" + SHORT, 64, "textvqa_val", training=TEXTVQA),
}
