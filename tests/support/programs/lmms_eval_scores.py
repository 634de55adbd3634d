"""Scores rows and outputs by lmms-eval's own code, in a process that imports its packages before ours.

Standard input: a JSON list of {"benchmark", "row", "output", "model_says"}; the last is what the model replies that
lmms-eval asks for some sets. Standard output, last line: a list of {"prompt", "filtered", "metrics"}, with "error"
where that code broke.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

# A client is made when the module is imported; nothing is asked of it.
os.environ["OPENAI_API_KEY"] = "unused"
os.environ["PROCESSOR"] = "gpt-4o-mini"

import lmms_eval
import yaml
from lmms_eval.api.metrics import anls, exact_match_fn
from lmms_eval.filters.extraction import RegexFilter

TASKS = {
    "ai2d": ("ai2d", "ai2d.yaml"),
    "chartqa": ("chartqa", "chartqa.yaml"),
    "docvqa": ("docvqa", "_default_template_docvqa_yaml"),
    "gsm8k": ("gsm8k", "gsm8k-cot-zeroshot.yaml"),
    "infovqa": ("infovqa", "_default_template_infovqa_yaml"),
    "math": ("openai_math", "openai_math.yaml"),
    "mathvision": ("mathvision", "mathvision_test.yaml"),
    "mathvista": ("mathvista", "mathvista_testmini_cot.yaml"),
    "mmstar": ("mmstar", "_default_template_yaml"),
    "scienceqa": ("scienceqa", "scienceqa.yaml"),
    "scienceqa_img": ("scienceqa", "scienceqa_img.yaml"),
    "textvqa": ("textvqa", "_default_template_textvqa_yaml"),
}
TASKS_FOLDER = Path(lmms_eval.__path__[0]) / "tasks"


class Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads a task's file; functions stay names."""


Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


class Task:
    """One task's file and functions."""

    def __init__(self, name: str) -> None:
        self.name = name
        folder, file = TASKS[name]
        self.config = yaml.load((TASKS_FOLDER / folder / file).read_text(), Loader)  # noqa: S506
        self.has_functions = (TASKS_FOLDER / folder / "utils.py").exists()
        self.functions: Any = importlib.import_module(f"lmms_eval.tasks.{folder}.utils") if self.has_functions else None

    def prompt(self, row: dict[str, Any]) -> str:
        given = self.config.get("lmms_eval_specific_kwargs", {}).get("default")
        if self.name == "gsm8k":
            return str(self.config["doc_to_text"]).replace("{{question}}", row["question"])
        made = getattr(self.functions, {"math": "doc_to_text"}.get(self.name, self._function("doc_to_text")))
        return str(made(row) if given is None else made(row, given))

    def _function(self, key: str) -> str:
        named = self.config.get(key) or MMSTAR[key]
        return str(named).removeprefix("utils.")

    def score(self, row: dict[str, Any], output: str, model_says: str | None) -> tuple[str, dict[str, float]]:
        output = output.strip() if self.name in ("docvqa", "infovqa") else output
        if self.name == "ai2d":
            (filtered,) = self.functions.MultiChoiceRegexFilter(regex_pattern="").apply([[output]], [row])
            metric = exact_match_fn(
                references=[self.functions.ai2d_doc_to_target(row, "mcq")],
                predictions=[filtered.strip()],
                ignore_case=True,
                ignore_punctuation=True,
            )
            return filtered, {"exact_match": float(metric["exact_match"])}
        if self.name == "gsm8k":
            return self._gsm8k(row, output)
        if self.name in ("docvqa", "infovqa"):
            return output, {"anls": float(anls(references=row["answers"], predictions=[output])["anls"])}
        if self.name == "math":
            self.functions.extract_answer_idx = lambda *_: model_says
        if self.name == "mathvista":
            self.functions.mathvista_evaluator.get_chat_response = lambda *_, **__: model_says
        found = getattr(self.functions, self._function("process_results"))(row, [output.strip()])
        return output, {key: self._number(value) for key, value in found.items() if self._is_figure(key)}

    def _gsm8k(self, row: dict[str, Any], output: str) -> tuple[str, dict[str, float]]:
        figures, filtered = {}, ""
        for each in self.config["filter_list"]:
            options = {key: value for key, value in each["filter"][0].items() if key != "function"}
            filtered = RegexFilter(**options).apply([[output]], [row])[0][0]
            metric = {**self.config["metric_list"][0]}
            kept = {key: metric[key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}
            value = exact_match_fn(references=[row["answer"]], predictions=[filtered], **kept)["exact_match"]
            figures[f"exact_match,{each['name']}"] = float(value)
        return filtered, figures

    def _is_figure(self, key: str) -> bool:
        return key not in ("submission", "extracted_answers", "exact_matches") and (
            self.name != "mmstar" or key == "average"
        )

    def _number(self, value: Any) -> float:
        if isinstance(value, dict):
            value = value["scores"][0] if "scores" in value else value.get("score", value.get("true_false"))
        return float(value)


MMSTAR = {"doc_to_text": "mmstar_doc_to_text", "process_results": "mmstar_process_results"}


def main() -> None:
    tasks: dict[str, Task] = {}
    made = []
    for case in json.load(sys.stdin):
        task = tasks.setdefault(case["benchmark"], tasks.get(case["benchmark"]) or Task(case["benchmark"]))
        row = json.loads(json.dumps(case["row"]))
        prompt = task.prompt(row)
        try:
            filtered, metrics = task.score(row, case["output"], case.get("model_says"))
            made.append({"prompt": prompt, "filtered": filtered, "metrics": metrics})
        except Exception as error:
            made.append({"prompt": prompt, "error": f"{type(error).__name__}: {error}"})
    print()
    print(json.dumps(made))


main()
