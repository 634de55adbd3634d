"""Scores a policy on a published benchmark, with the benchmark's own prompt, split and rule."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from judges.published import VERSION, Scored, aggregate, read_and_score, score_output
from loop.context import Context
from loop.evaluation.benchmark_set import BenchmarkRow, benchmark_split, known_benchmark
from loop.evaluation.commit_groups import commit_groups
from loop.evaluation.refusals import Refusals
from loop.evaluation.seen_images import seen_in_training
from loop.swap_and_prove import serve_policy
from policies.prompt import Prompt
from policies.sampler import Chain, Request
from store import Store
from store.database import as_json
from store.evaluations import NewEvaluation, add_evaluations, present_evaluations
from store.questions import questions_by_id
from store.unusable import unusable_questions

RIGHT_FROM = 0.5
"""The score from which an answer counts as correct in the run's own accuracies; the benchmark's figures are means."""

STOPS = {"gsm8k": ("Q:", "</s>", "<|im_end|>"), "textvqa": ("ASSISTANT:",)}
"""Texts at which lmms-eval stops the model: what comes after them is not part of the output."""


@dataclass(frozen=True)
class Answered:
    """A row with the policy's output, the scored part of it, its score, and a training question with the same image."""

    row: BenchmarkRow
    output: str
    scored_text: str
    tokens: int
    scored: Scored
    seen: int | None


def answer_benchmark(
    ctx: Context, name: str, policy: int, rows: Sequence[BenchmarkRow], style: str, max_tokens: int
) -> None:
    """Let a policy answer the rows that it has not answered, greedily, committing every few hundred answers.

    In style `direct` a row is asked with the benchmark's prompt; in style `cot` with the run's, and the answer after
    the last marker is scored. A question that the sampler refuses becomes unusable.
    """
    split = benchmark_split(name)
    unusable, present = unusable_questions(ctx.store), present_evaluations(ctx.store, policy, split)
    by_question = {row.question: row for row in rows if row.question not in unusable}
    missing = [question for question in by_question if (question, style) not in present]
    if not missing:
        return
    sampler = serve_policy(ctx, policy, None)
    images = {number: question.images for number, question in questions_by_id(ctx.store, missing).items()}

    def requests() -> Iterator[Request]:
        for question in missing:
            text = lay_out(ctx, name, by_question[question].text, style)
            yield Request((question, style), Prompt(text, images[question]), 0.0, max_tokens)

    def commit(group: list[Chain]) -> None:
        evaluations = [_evaluation(name, policy, style, by_question[chain.key[0]], chain) for chain in group]  # type: ignore[index]
        with ctx.store.transaction():
            add_evaluations(ctx.store, evaluations)
            refused.record()

    taken, refused = bool(present), Refusals(ctx)
    done = len(by_question) - len(missing)
    with ctx.reporter.bar(f"policy {policy} on {name}", len(by_question), "answer", done) as bar:
        for group in commit_groups(ctx, sampler.sample(requests(), refused), bar):
            commit(group)
            taken = True
    refused.finish(taken=taken)


def lay_out(ctx: Context, name: str, text: str, style: str) -> str:
    """The prompt of a row's question."""
    if style == "cot":
        return ctx.config.prompts.lay_out(style, text)
    return known_benchmark(name).prompt.replace("{question}", text)


def read_answered(store: Store, name: str, policy: int, rows: Sequence[BenchmarkRow], style: str) -> list[Answered]:
    """Every row that the policy has answered, scored again by the benchmark's rule, in the set's order."""
    answers = {
        row["question"]: row
        for row in store.stream(
            "SELECT question, text, tokens FROM evaluation WHERE policy = ? AND split = ? AND style = ?",
            policy,
            benchmark_split(name),
            style,
        )
    }
    seen = seen_in_training(store, benchmark_split(name))
    found = []
    for row in rows:
        if (answer := answers.get(row.question)) is not None:
            scored = _score(name, row, answer["text"], style)
            text = answer["text"] if style != "cot" else scored.filtered
            found.append(Answered(row, answer["text"], text, answer["tokens"], scored, seen.get(row.question)))
    return found


def figures(name: str, answered: Sequence[Answered]) -> dict[str, float]:
    """The benchmark's figures under lmms-eval's names; {} without an answer."""
    if not answered:
        return {}
    return aggregate(name, [each.row.columns for each in answered], [each.scored.metrics for each in answered])


def write_samples(
    folder: Path,
    name: str,
    policy: int,
    style: str,
    answered: Sequence[Answered],
    prompts: Sequence[str],
    limit: int | None,
) -> list[Path]:
    """Write the answers in lmms-eval's log of samples, and in the format of its model `from_log`, which scores them.

    `TIME_samples_TASK.jsonl` has one sample per line; `TIME_TASK.json` is the log. Returns both paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    task = known_benchmark(name).task or name
    now = datetime.now()
    samples, log = folder / f"{now:%Y%m%d_%H%M%S}_samples_{task}.jsonl", folder / f"{now:%m%d_%H%M}_{task}.json"
    with samples.open("w", encoding="utf-8") as file:
        for each, prompt in zip(answered, prompts, strict=True):
            file.write(json.dumps(sample_line(name, each, prompt), ensure_ascii=False, default=str) + "\n")
    answers = [{"doc_id": each.row.number, "resps": [[each.scored_text]]} for each in answered]
    arguments = {"model": "ratchet", "model_args": f"policy={policy},style={style}", "limit": limit}
    written = {"args": arguments, "model_configs": {"task": task}, "logs": answers, "time": f"{now:%m%d_%H%M}"}
    log.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    return [samples, log]


def sample_line(name: str, answered: Answered, prompt: str) -> dict[str, Any]:
    """One sample in the format of lmms-eval's log; `seen_in_training` is added if the run trains on its image."""
    row, scored = answered.row, answered.scored
    filtered = scored.filtered if answered.output == answered.scored_text else answered.scored_text
    line: dict[str, Any] = {
        "doc_id": row.number,
        "target": str(_target(name, row.columns)),
        "filtered_resps": filtered,
        "token_counts": [{"output_tokens": answered.tokens}],
        "doc_hash": hashlib.sha256(
            json.dumps(row.columns, indent=2, default=str, ensure_ascii=False).encode()
        ).hexdigest(),
        **_sample_metrics(name, row.columns, scored),
        "input": prompt,
    }
    if answered.output != filtered:
        line["resps"] = [answered.output]
    return line if answered.seen is None else {**line, "seen_in_training": answered.seen}


def _sample_metrics(name: str, columns: Mapping[str, Any], scored: Scored) -> dict[str, Any]:
    """A sample's metrics in the format of lmms-eval's own functions: those of three sets are more than a number."""
    if name == "mmstar":
        found = {"question_id": columns.get("index"), "l2_category": columns["l2_category"], "score": scored.score}
        return {columns["category"]: found, "average": found}
    if name == "mathvision":
        return {"mathvision_standard_eval": {"response": [scored.filtered], "scores": [bool(scored.score)]}}
    if name == "mathvista":
        found = {"question_id": columns.get("pid"), "true_false": bool(scored.score), "answer": columns["answer"]}
        return {"llm_as_judge_eval": found, "submission": found}
    return dict(scored.metrics)


def _target(name: str, columns: Mapping[str, Any]) -> Any:
    if name in ("ai2d", "scienceqa", "scienceqa_img", "a_okvqa"):
        return chr(ord("A") + int(columns["correct_choice_idx" if name == "a_okvqa" else "answer"]))
    return columns["answers"] if name in ("docvqa", "infovqa") else columns.get("answer")


def _score(name: str, row: BenchmarkRow, output: str, style: str) -> Scored:
    if style != "cot":
        return score_output(name, row.columns, output)
    return read_and_score(name, row.columns, output) or Scored("", 0.0, score_output(name, row.columns, "").metrics)


def _evaluation(name: str, policy: int, style: str, row: BenchmarkRow, chain: Chain) -> NewEvaluation:
    text = chain.text
    for stop in STOPS.get(name, ()) if style != "cot" else ():
        text = text.partition(stop)[0]
    found = _score(name, row, text, style)
    unread = style == "cot" and not found.filtered
    right = "correct" if found.score >= RIGHT_FROM else "wrong"
    ended = "truncated" if chain.finish_reason == "length" else "unparsable"
    return NewEvaluation(
        policy,
        benchmark_split(name),
        style,
        row.question,
        text,
        len(chain.token_ids),
        chain.finish_reason,
        None,
        f"benchmark({name})",
        VERSION,
        found.filtered or None,
        found.score,
        ended if unread else right,
        as_json(list(found.flags)),
    )
