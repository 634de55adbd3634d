"""Published sets by name: each mapping read from rows of the schema that its set has on the hub."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from judges import find_judge
from loop.config.known_datasets import KNOWN, HubSet
from loop.config.questions import QuestionsConfig
from loop.config.schema import PromptsConfig
from loop.questions.sources.hub_datasets import read_questions
from store.new_questions import NewQuestion

TEXT = datasets.Value("string")
TEXTS = datasets.List(TEXT)
NUMBER = datasets.Value("int64")
IMAGE = datasets.Image()

DOCVQA = {
    "questionId": TEXT,
    "question": TEXT,
    "question_types": TEXTS,
    "image": IMAGE,
    "docId": NUMBER,
    "answers": TEXTS,
}
SCIENCEQA = {
    "image": IMAGE,
    "question": TEXT,
    "choices": TEXTS,
    "answer": NUMBER,
    "hint": TEXT,
    "task": TEXT,
    "grade": TEXT,
    "subject": TEXT,
    "topic": TEXT,
    "lecture": TEXT,
    "solution": TEXT,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "HuggingFaceM4/A-OKVQA": {
        "image": IMAGE,
        "question_id": TEXT,
        "question": TEXT,
        "choices": TEXTS,
        "correct_choice_idx": NUMBER,
        "direct_answers": TEXT,
        "difficult_direct_answer": datasets.Value("bool"),
        "rationales": TEXTS,
    },
    "lmms-lab/ai2d": {"question": TEXT, "options": TEXTS, "answer": TEXT, "image": IMAGE},
    "lmms-lab/ChartQA": {"type": TEXT, "question": TEXT, "answer": TEXT, "image": IMAGE},
    "HuggingFaceM4/ChartQA": {
        "image": IMAGE,
        "query": TEXT,
        "label": TEXTS,
        "human_or_machine": datasets.ClassLabel(names=["human", "machine"]),
    },
    "lmms-lab/DocVQA": DOCVQA,
    "HuggingFaceM4/DocumentVQA": DOCVQA,
    "openai/gsm8k": {"question": TEXT, "answer": TEXT},
    "HuggingFaceH4/MATH-500": {
        "problem": TEXT,
        "solution": TEXT,
        "answer": TEXT,
        "subject": TEXT,
        "level": NUMBER,
        "unique_id": TEXT,
    },
    "DigitalLearningGmbH/MATH-lighteval": {"problem": TEXT, "level": TEXT, "solution": TEXT, "type": TEXT},
    "MathLLMs/MathVision": {
        "id": TEXT,
        "question": TEXT,
        "options": TEXTS,
        "image": TEXT,
        "decoded_image": IMAGE,
        "answer": TEXT,
        "solution": TEXT,
        "level": NUMBER,
        "subject": TEXT,
    },
    "AI4Math/MathVista": {
        "pid": TEXT,
        "question": TEXT,
        "image": TEXT,
        "decoded_image": IMAGE,
        "choices": TEXTS,
        "unit": TEXT,
        "precision": datasets.Value("float64"),
        "answer": TEXT,
        "question_type": TEXT,
        "answer_type": TEXT,
        "metadata": {"split": TEXT, "grade": TEXT},
        "query": TEXT,
    },
    "Lin-Chen/MMStar": {
        "index": NUMBER,
        "question": TEXT,
        "image": IMAGE,
        "answer": TEXT,
        "category": TEXT,
        "l2_category": TEXT,
        "meta_info": {"source": TEXT, "split": TEXT, "image_path": TEXT},
    },
    "lmms-lab/ScienceQA": SCIENCEQA,
    "lmms-lab/textvqa": {
        "image_id": TEXT,
        "question_id": NUMBER,
        "question": TEXT,
        "image": IMAGE,
        "answers": TEXTS,
        "ocr_tokens": TEXTS,
    },
}
"""Path on the hub -> the columns that the set has there."""

ROWS: dict[str, dict[str, Any]] = {
    "HuggingFaceM4/A-OKVQA": {
        "question": "What is he doing?",
        "choices": ["1", "3", "2", "0"],
        "correct_choice_idx": 1,
        "direct_answers": "['skiing']",
        "rationales": ["snow"],
    },
    "lmms-lab/ai2d": {"question": "Which eats?", "options": ["fox", "hare"], "answer": "1"},
    "lmms-lab/ChartQA": {"type": "human_test", "question": "How many?", "answer": "14"},
    "HuggingFaceM4/ChartQA": {"query": "How many?", "label": ["14"], "human_or_machine": 1},
    "lmms-lab/DocVQA": {"questionId": "7", "question": "Which date?", "answers": ["May 1", "1 May"]},
    "HuggingFaceM4/DocumentVQA": {"questionId": "7", "question": "Which date?", "answers": ["May 1", "1 May"]},
    "openai/gsm8k": {"question": "How many clips?", "answer": "48/2 = <<48/2=24>>24.\n#### 1,072"},
    "HuggingFaceH4/MATH-500": {"problem": "Solve.", "solution": "s", "answer": "\\frac{1}{2}", "subject": "Algebra"},
    "DigitalLearningGmbH/MATH-lighteval": {
        "problem": "Solve.",
        "solution": "so $\\boxed{\\frac{1}{2}}$",
        "type": "Algebra",
    },
    "MathLLMs/MathVision": {
        "id": "4",
        "question": "How?\n<image1>",
        "options": ["1", "2"],
        "answer": "B",
        "subject": "s",
    },
    "AI4Math/MathVista": {
        "pid": "3",
        "question": "Which?",
        "choices": ["Yes", "No"],
        "answer": "No",
        "question_type": "multi_choice",
        "query": "Hint: give the letter.\nQuestion: Which?\nChoices:\n(A) Yes\n(B) No",
    },
    "Lin-Chen/MMStar": {"index": 0, "question": "Which?\nOptions: A: x, B: y", "answer": "A", "category": "math"},
    "lmms-lab/ScienceQA": {"question": "Which?", "choices": ["x", "y"], "answer": 0, "hint": "Look.", "subject": "s"},
    "lmms-lab/textvqa": {"question_id": 3, "question": "what is WRITTEN?", "answers": ["stop"] * 8 + ["shop"] * 2},
}

TEXT_OF = {
    "HuggingFaceM4/A-OKVQA": "What is he doing?\nA. 1\nB. 3\nC. 2\nD. 0",
    "lmms-lab/ai2d": "Which eats?\nA. fox\nB. hare",
    "MathLLMs/MathVision": "How?\n<image1>\nChoices: A. 1\nB. 2\nAnswer the question with the option's"
    " letter from the given choices directly.",
    "AI4Math/MathVista": ROWS["AI4Math/MathVista"]["query"],
    "lmms-lab/ScienceQA": "Context: Look.\nWhich?\nA. x\nB. y",
    "lmms-lab/textvqa": "What is written?",
}
ANSWERED = {
    "HuggingFaceM4/A-OKVQA": (["B"], "B. 3", "A"),
    "lmms-lab/ai2d": (["B"], "b", "fox"),
    "lmms-lab/ChartQA": (["14"], "14.5", "16"),
    "HuggingFaceM4/ChartQA": (["14"], "14.5", "16"),
    "lmms-lab/DocVQA": (["May 1", "1 May"], "may 1", "June"),
    "HuggingFaceM4/DocumentVQA": (["May 1", "1 May"], "1 may", "June"),
    "openai/gsm8k": (["1,072"], "1072", "24"),
    "HuggingFaceH4/MATH-500": (["\\frac{1}{2}"], "0.5", "2"),
    "DigitalLearningGmbH/MATH-lighteval": (["\\frac{1}{2}"], "0.5", "2"),
    "MathLLMs/MathVision": (["B"], "(B)", "A"),
    "AI4Math/MathVista": (["No"], "(B)", "A"),
    "Lin-Chen/MMStar": (["A"], "A", "B"),
    "lmms-lab/ScienceQA": (["A"], "A", "y"),
    "lmms-lab/textvqa": (["stop"] * 8 + ["shop"] * 2, "Stop", "go"),
}
"""Accepted answers, an answer that is right by the set's judge, one that is wrong."""

SETS = [
    *((name, "training", known.training) for name, known in KNOWN.items() if known.training),
    *((name, "benchmark", known.benchmark) for name, known in KNOWN.items()),
]


def write_like(folder: Path, hub: HubSet) -> None:
    """A folder with the files of a set of the hub: a row each split, an image of its own in each."""
    schema, named = SCHEMAS[hub.path], "name: default" if hub.name is None else f"name: {hub.name}"
    lines = ["---", "configs:", f"- config_{named}", "  data_files:"]
    for number, split in enumerate(hub.splits.values()):
        image = Image.new("RGB", (4, 4), (number, 1, 2))
        row = {
            **{column: image if feature == IMAGE else None for column, feature in schema.items()},
            **ROWS[hub.path],
        }
        if not any(feature == IMAGE for feature in schema.values()):
            row[hub.columns["question"]] = f"{row[hub.columns['question']]} {number}"  # type: ignore[index]
        content = datasets.Dataset.from_list([row], features=datasets.Features(schema))
        content.to_parquet(folder / "data" / f"{split}.parquet")
        lines += [f"  - split: {split}", f"    path: data/{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


@pytest.mark.parametrize(("name", "use", "hub"), SETS, ids=[f"{name}-{use}" for name, use, _ in SETS])
def test_a_published_set_is_read_as_its_mapping_says(name: str, use: str, hub: HubSet, tmp_path: Path) -> None:
    write_like(tmp_path, hub)
    # A benchmark has nothing to train on: its split stands in for it here.
    keys = hub.keys() if "train" in hub.splits else {**hub.keys(), "splits": {"train": hub.splits["test"]}}
    config = QuestionsConfig(**{"source": "datasets", **keys, "path": str(tmp_path)})
    found = list(read_questions(config))
    assert len(found) == len(hub.splits)
    if "train" in hub.splits:
        assert {each.split for each in found} >= hub.splits.keys() - {"train"}
    for question in found:
        check(hub, question)


def check(hub: HubSet, question: NewQuestion) -> None:
    accepted, right, wrong = ANSWERED[hub.path]
    assert list(question.answers) == accepted
    assert question.text.startswith(TEXT_OF.get(hub.path, question.text[:8]))
    assert len(question.images) == (1 if "images" in hub.columns else 0)
    for part in ("id", "kind"):
        value = question.external_id if part == "id" else question.kind
        assert value or part not in hub.columns
    judge = find_judge(question.judge)
    assert judge.score(right, accepted, question.choices) >= judge.correct_from
    assert judge.score(wrong, accepted, question.choices) < judge.correct_from


@pytest.mark.parametrize("name", KNOWN)
def test_a_published_sets_name_fills_in_missing_keys(name: str) -> None:
    known = KNOWN[name]
    PromptsConfig(direct=known.prompt)
    hub = known.training or known.benchmark
    given = {} if known.training else {"splits": {"train": "test"}}
    config = QuestionsConfig(**{"source": "datasets", "dataset": name, **given})  # type: ignore[arg-type]
    wanted = {**hub.keys(), **given}
    assert {key: getattr(config, key) for key in wanted} == wanted
    own = QuestionsConfig(**{"source": "datasets", "dataset": name, **given, "judge": "exact", "limit": 5})  # type: ignore[arg-type]
    assert (own.judge, own.limit, own.path) == ("exact", 5, hub.path)
    assert QuestionsConfig.model_validate(own.model_dump()) == own
    if known.training is None:
        with pytest.raises(ValueError, match="is a benchmark with no split to train on"):
            QuestionsConfig(source="datasets", dataset=name)
