"""Rows of published benchmarks in their own columns, made here: small, with the forms that the real rows have."""

import random
from pathlib import Path
from typing import Any

from base_model.scenes import draw_scene
from tests.support.scene_sets import png

BENCHMARK_ROWS: dict[str, list[dict[str, Any]]] = {
    "a_okvqa": [
        {
            "question": "What is the man by the bags awaiting?",
            "choices": ["skateboarder", "train", "delivery", "cab"],
            "correct_choice_idx": 3,
            "question_id": "22jbM6gDxdaMaunuzgrsBB",
        }
    ],
    "ai2d": [
        {"question": "which of these define dairy item", "options": ["c", "D", "b", "a"], "answer": "1"},
        {"question": "Which is the producer?", "options": ["Fish", "Algae", "Heron"], "answer": "0"},
    ],
    "chartqa": [
        {"type": "human_test", "question": "How many bars are shown?", "answer": "14"},
        {"type": "augmented_test", "question": "What share was it?", "answer": "50%"},
        {"type": "human_test", "question": "Which year?", "answer": "2019"},
        {"type": "augmented_test", "question": "Who leads?", "answer": "North America"},
        {"type": "human_test", "question": "What is the lowest?", "answer": "0"},
    ],
    "docvqa": [
        {"questionId": "49153", "question": "What is the actual value?", "answers": ["0.28"]},
        {
            "questionId": "24580",
            "question": "Name of the university?",
            "answers": ["UCSD", "University of California, San Diego"],
        },
        {"questionId": "57349", "question": "What is the date?", "answers": ["January 8, 1999", "1/8/99"]},
    ],
    "gsm8k": [
        {"question": "How many eggs?", "answer": "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\n#### 18"},
        {"question": "How much profit?", "answer": "He made 200,000 - 130,000.\n#### 70,000"},
        {"question": "How many metres?", "answer": "3*3=9 sprints.\n#### 540"},
        {"question": "What is left?", "answer": "It is less.\n#### -5"},
    ],
    "infovqa": [
        {"questionId": "98313", "question": "Which platform has the most?", "answers": ["pinterest"]},
        {"questionId": "98314", "question": "What share?", "answers": ["68%", "68 %"]},
    ],
    "math": [
        {
            "problem": "Compute $1/2+1/3$.",
            "answer": r"\frac{5}{6}",
            "subject": "Algebra",
            "unique_id": "test/algebra/1.json",
        },
        {"problem": "Compute $023$.", "answer": "23", "subject": "Algebra", "unique_id": "test/algebra/2.json"},
        {
            "problem": "Name the point.",
            "answer": r"\left( 3, \frac{\pi}{2} \right)",
            "subject": "Precalculus",
            "unique_id": "test/precalculus/3.json",
        },
    ],
    "mathvision": [
        {
            "id": "4",
            "question": "Which number should replace the mark?\n<image1>",
            "options": ["A", "B", "C", "D", "E"],
            "answer": "C",
            "subject": "algebra",
        },
        {"id": "5", "question": "How many are there?\n<image1>", "options": [], "answer": "12", "subject": "counting"},
        {
            "id": "6",
            "question": "Which length?\n<image1>",
            "options": ["4", "5", r"$4\pi$", "7", "8"],
            "answer": "B",
            "subject": "length",
        },
        {"id": "7", "question": "What part?\n<image1>", "options": [], "answer": r"\frac{1}{2}", "subject": "area"},
        {"id": "8", "question": "Where is it?\n<image1>", "options": [], "answer": "(1,2)", "subject": "area"},
        {"id": "9", "question": "What is its area?\n<image1>", "options": [], "answer": "3.5", "subject": "area"},
    ],
    "mathvista": [
        {
            "pid": "1",
            "question": "When did it reach?",
            "choices": None,
            "unit": "",
            "precision": 1.0,
            "answer": "1.2",
            "question_type": "free_form",
            "answer_type": "float",
        },
        {
            "pid": "2",
            "question": "What is it?",
            "choices": ["(A) 1", "36", "145", "115"],
            "unit": None,
            "precision": None,
            "answer": "145",
            "question_type": "multi_choice",
            "answer_type": "text",
        },
        {
            "pid": "3",
            "question": "How many?",
            "choices": None,
            "unit": "years",
            "precision": None,
            "answer": "9",
            "question_type": "free_form",
            "answer_type": "integer",
        },
        {
            "pid": "4",
            "question": "Which two years?",
            "choices": None,
            "unit": "",
            "precision": None,
            "answer": "[2007, 2008]",
            "question_type": "free_form",
            "answer_type": "list",
        },
        {
            "pid": "5",
            "question": "Is it so?",
            "choices": ["Yes", "No"],
            "unit": "",
            "precision": None,
            "answer": "No",
            "question_type": "multi_choice",
            "answer_type": "text",
        },
        {
            "pid": "6",
            "question": "How far?",
            "choices": None,
            "unit": "",
            "precision": 2.0,
            "answer": "1.45",
            "question_type": "free_form",
            "answer_type": "float",
        },
    ],
    "mmstar": [
        {
            "index": 0,
            "question": "Which option?\nOptions: A: a cat, B: a dog, C: a cow, D: a hen",
            "answer": "A",
            "category": "coarse perception",
            "l2_category": "image emotion",
        },
        {
            "index": 1,
            "question": "Is it there? Please answer yes or no.\nOptions: A: yes, B: no",
            "answer": "B",
            "category": "math",
            "l2_category": "geometry",
        },
        {
            "index": 2,
            "question": "Which shape?\nOptions: A: square, B: disc, C: star, D: ring",
            "answer": "D",
            "category": "math",
            "l2_category": "statistical reasoning",
        },
    ],
    "scienceqa": [
        {
            "question": "Which is north?",
            "choices": ["Ohio", "Utah"],
            "answer": 0,
            "hint": "",
            "subject": "social science",
        },
        {
            "question": "What can they test?",
            "choices": ["how far", "how fast", "how long"],
            "answer": 2,
            "hint": "The passage below.",
            "subject": "natural science",
        },
    ],
    "textvqa": [
        {
            "question_id": 34602,
            "question": "what is the brand of this camera?",
            "answers": ["nous les gosses", "dakota"] + ["dakota digital"] * 6 + ["clos culombu", "dakota"],
        },
        {
            "question_id": 34603,
            "question": "what time is it?",
            "answers": ["Two"] * 4 + ["2"] * 3 + ["it's two", "2:00", "the two"],
        },
    ],
}
BENCHMARK_ROWS["scienceqa_img"] = BENCHMARK_ROWS["scienceqa"]
for _each in BENCHMARK_ROWS["mathvista"]:
    _each.update(query=f"Hint: answer.\nQuestion: {_each['question']}", metadata={"split": "testmini"})

IMAGES = {"mathvision": "decoded_image", "mathvista": "decoded_image"}
WITHOUT_IMAGES = ("gsm8k", "math")


def write_benchmark(path: Path, name: str, seed: int = 0, copies: int = 1) -> Path:
    """A Parquet file of a benchmark's rows, each with a picture of its own, as `datasets` writes it.

    With `copies` each row comes so often, with another picture and its number behind the question.
    """
    from datasets import Dataset, Features, Image, Value

    rng, rows = random.Random(seed), []
    for copy in range(copies):
        for row in BENCHMARK_ROWS[name]:
            asked = {
                key: f"{row[key]} ({copy})" if copy and key in ("question", "problem") else row[key] for key in row
            }
            picture = (
                {}
                if name in WITHOUT_IMAGES
                else {IMAGES.get(name, "image"): {"bytes": png(draw_scene(rng)), "path": None}}
            )
            rows.append({**asked, **picture})
    made = Dataset.from_list(rows)
    for column in ("image", "decoded_image"):
        if column in made.column_names:
            made = made.cast_column(column, Image())
    made = (
        made.cast(Features({**made.features, "precision": Value("float64")}))
        if "precision" in made.column_names
        else made
    )
    made.to_parquet(str(path))
    return path
