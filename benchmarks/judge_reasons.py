"""Tests whether a judge's verdict follows from its reasons: `python -m benchmarks.judge_reasons JUDGE_DIR`.

In RM-R1 (arXiv 2505.02387) the judge solves the question before it chooses. Here the judge's texts about the two
candidates are exchanged in its own greedy outputs to held-out questions. The two verdicts are then compared by their
log-probability after that text. If the verdict follows from the text, it must change; if it comes straight from prompt
and images, it stays. It also prints how often the judge describes the images correctly and judges rightly.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path

from loop.commands.options import stored_config
from loop.questions.sources.easy_vqa import annotations
from loop.session import Parts, open_session, work_on
from loop.terminal.console import Console
from policies.encoding import Prompt
from policies.verifier import ScoredChain
from store import Store, open_store
from store.gate import best_policy

LINE = re.compile(r"^([12]):(.*)$", re.MULTILINE)
TOTAL = re.compile(r"= (\d+)\s*$")
SEES = re.compile(r"The image shows an? (\w+) (\w+)")
VERDICTS = ("1", "2")
OUTPUTS = """
SELECT question.id, question.text AS question, kind, json_extract(answers, '$[0]') AS right, evaluation.text, extracted,
       (SELECT json_group_array(image) FROM (SELECT image FROM question_image WHERE question = question.id
        ORDER BY position)) AS images
FROM evaluation JOIN question ON question.id = evaluation.question
WHERE policy = ? AND evaluation.split = 'test' AND style = 'cot' AND extracted IS NOT NULL ORDER BY question.id"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="JUDGE_DIR")
    options = parser.parse_args()
    store = open_store(options.run_dir, read_only=True)
    config, policy = stored_config(store, options.run_dir), best_policy(store)
    rows = store.rows(OUTPUTS, policy)
    print_descriptions(store, policy)
    store.close()
    texts = [(row, swapped) for row in rows if (swapped := swap_lines(row["text"])) is not None]
    config = config.model_copy(update={"teacher": config.teacher.model_copy(update={"enabled": False})})
    with (
        work_on(options.run_dir) as store,
        open_session(store, config, options.run_dir, Console(), Parts(), "evaluate") as (ctx, _),
    ):
        chains = [
            ScoredChain(
                Prompt(config.prompts.cot.replace("{question}", row["question"]), tuple(json.loads(row["images"]))),
                tuple(ctx.encoder.completion_ids(f"{text}<answer>{verdict}</answer>")),
            )
            for row, swapped in texts
            for text in (before_verdict(row["text"]), before_verdict(swapped))
            for verdict in VERDICTS
        ]
        model = ctx.load_policy(policy)
        with ctx.reporter.bar("scoring verdicts", len(chains), "chain") as bar:
            scores = [sum(each) for each in ctx.learner.token_logprobs(model, chains, bar.update)]
    counts = Counter[tuple[str, str]]()
    for n, (row, _) in enumerate(texts):
        own, other = (
            VERDICTS[int(second > first)]
            for first, second in (scores[4 * n : 4 * n + 2], scores[4 * n + 2 : 4 * n + 4])
        )
        for kind in (row["kind"], "all"):
            counts[kind, "outputs"] += 1
            counts[kind, "kept"] += own == row["extracted"]
            counts[kind, "turned"] += other != own
    print(
        "| task | outputs with different sums | verdict turns when the two lines change places |\n| --- | --- | --- |"
    )
    for kind in sorted({kind for kind, _ in counts}):
        total = counts[kind, "outputs"]
        print(f"| {kind} | {total} | {100 * counts[kind, 'turned'] / total:.1f}% |")


def swap_lines(text: str) -> str | None:
    """The output with its texts about the candidates exchanged; None if it lacks a line with a sum for each."""
    lines = LINE.findall(text)
    totals = [TOTAL.search(content) for _, content in lines]
    if [number for number, _ in lines] != ["1", "2"] or None in totals:
        return None
    (_, first), (_, second) = lines
    if TOTAL.search(first)[1] == TOTAL.search(second)[1]:  # type: ignore[index]
        return None
    contents = iter((second, first))
    return LINE.sub(lambda found: f"{found[1]}:{next(contents)}", text)


def before_verdict(text: str) -> str:
    """The text before the verdict's tag."""
    return text[: text.index("<answer>")]


def print_descriptions(store: Store, policy: int) -> None:
    """Print by task how often the judge describes the images correctly, and how often it judges rightly."""
    counts = Counter[tuple[str, str]]()
    for row in store.rows(OUTPUTS, policy):
        shown = [annotations().get(image) for image in json.loads(row["images"])]
        lines = [SEES.findall(line) for line in row["text"].splitlines()]
        said = [(found[0][1], found[0][0]) for found in lines if found]
        if None in shown:
            continue
        sees = "sees rightly" if said == shown else "sees wrongly"
        judges = "judges rightly" if row["extracted"] == row["right"] else "judges wrongly"
        for kind in (row["kind"], "all"):
            counts[kind, f"{sees}, {judges}"] += 1
    columns = [f"sees {a}, judges {b}" for a in ("rightly", "wrongly") for b in ("rightly", "wrongly")]
    print(f"| task | {' | '.join(columns)} |\n{'| --- ' * 5}|")
    for kind in sorted({kind for kind, _ in counts}):
        total = sum(counts[kind, column] for column in columns)
        print(f"| {kind} | {' | '.join(f'{100 * counts[kind, column] / total:.1f}%' for column in columns)} |")
    print()


if __name__ == "__main__":
    main()
