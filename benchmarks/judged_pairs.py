"""The value of a judge run without accepted answers: `python -m benchmarks.judged_pairs --judge JUDGE_DIR`.

Two rounds of DPO from the cold start of a demo run, on questions about images that neither the demo run nor the judge
was trained on: easy-VQA's test images, in four parts by their number. Two parts are trained on, the third is for the
gate, the fourth is reported. Pairs come from the accepted answers (`answers`), from the votes of the samples (`votes`),
or from the judge run (`judged`); the last two never see an answer.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.many_runs import NUMERICS, Results, Run, make_runs, parse_runs, run_program
from loop.evaluation.comparison import compare
from loop.questions.sources.easy_vqa import test_questions
from loop.reading.accuracy_log import accuracy
from store import open_store
from store.gate import best_policy

SPLITS = {0: "gate", 1: "train", 2: "train", 3: "test"}
ARMS = {
    "answers": ("pairs.rule=likeliest",),
    "votes": ("questions.unlabelled=true", "pairs.rule=vote"),
    "judged": ("questions.unlabelled=true", "pairs.rule=judged"),
}
CONFIG = """\
[run]
rounds = 2

[policy]
model = {model}
dtype = "float32"

[questions]
source = "jsonl"
path = {questions}

[teacher]
enabled = false

[cold_start]
rationales = 0
direct_items = 0
format_items = 0

[sampling]
questions = 800
samples = 4
max_tokens = 64

[pairs]
per_question = 1
rule = "likeliest"

[update]
learning_rate = 1e-4
losses = {{ sigmoid = 0.3, sft = 1.0 }}

[evaluation]
max_tokens = 64

[gate]
rule = "sequential"
shrink = [0.5, 0.25]

[engine]
max_model_len = 256
kv_cache_gib = 1.0
enforce_eager = true
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="the finished run whose cold start learns")
    parser.add_argument("--judge", type=Path, required=True, help="a finished judge run")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--runs", nargs="+", default=["one_thread:0"], metavar="NUMERICS:SEED[-SEED]",
                        help=" ".join(NUMERICS))  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/judged_pairs"), help="where questions and runs are kept")
    parser.add_argument("--json", type=Path, default=Path("runs/judged_pairs.json"), help="where the results are kept")
    options = parser.parse_args()
    wanted = [Run(arm, *each) for arm in options.arms for each in parse_runs(options.runs)]
    results = Results(options.json)

    def make(run: Run) -> None:
        config = write_config(options.out, options.demo, with_answers=run.arm == "answers")
        judge = [f"pairs.judge_run={options.judge.resolve()}"] if run.arm == "judged" else []
        run_program(run, str(config), options.out / run.key, [*ARMS[run.arm], *judge])
        results.add(run, read(options.out / run.key))

    make_runs([run for run in wanted if run.key not in results.found], make)
    print_table({run.key: results.found[run.key] for run in wanted})


def write_config(out: Path, demo: Path, *, with_answers: bool) -> Path:
    """The configuration and its questions, with or without the answers of those that are learned from."""
    name = "answers" if with_answers else "withheld"
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for text, answer, number, image in test_questions():
        copy = folder / f"{number}.png"
        if not copy.exists():
            copy.write_bytes(image.read_bytes())
        split = SPLITS[number % len(SPLITS)]
        row = {"question": text, "images": [f"images/{copy.name}"], "split": split}
        lines.append(json.dumps(row | ({"answer": answer} if with_answers or split != "train" else {})))
    questions, config = out / f"{name}.jsonl", out / f"{name}.toml"
    questions.write_text("\n".join(lines) + "\n")
    model = json.dumps(str((demo / "policies" / "0001").resolve()))
    config.write_text(CONFIG.format(model=model, questions=json.dumps(str(questions.resolve()))))
    return config


def read(run_dir: Path) -> dict[str, Any]:
    """Held-out accuracy before and after, of the policy that the gate found best."""
    store = open_store(run_dir, read_only=True)
    served = best_policy(store)
    tested = compare(store, served, 0, "test", "cot")
    found = {
        "before": accuracy(store, 0, "cot", "test"),
        "after": accuracy(store, served, "cot", "test"),
        "gained": tested.gained,
        "lost": tested.lost,
        "p": tested.p_value,
        "pairs": store.value("SELECT count(*) FROM pair"),
        "seconds": store.value("SELECT sum(seconds) FROM phase_time"),
    }
    store.close()
    return found


def print_table(found: dict[str, dict[str, Any]]) -> None:
    """A row for each run."""
    print("| run | before | after | questions gained, lost | pairs | minutes |\n| --- | --- | --- | --- | --- | --- |")
    for name, each in found.items():
        before, after = (100 * each[when]["accuracy"] for when in ("before", "after"))
        changed = f"+{each['gained']} -{each['lost']}, p = {each['p']:.2g}"
        print(f"| {name} | {before:.1f} | {after:.1f} | {changed} | {each['pairs']} | {each['seconds'] / 60:.1f} |")


if __name__ == "__main__":
    main()
