"""The model card of a published policy: `README.md` beside its weights, written when its round ends.

All content is read from the store. Text of users, teachers and models is escaped. No path or address of this machine is
named, because cards are made to be published.
"""

import hashlib
import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from loop.config.prompt_styles import STYLES
from loop.config.schema import Config
from loop.config.teacher import EMBEDDED
from loop.context import Context
from loop.reading.accuracy_log import accuracy, reported_split
from policies.packaged_model import PREFIX
from store import Store
from store.rounds import policy_parents

FILE_NAME = "README.md"

PUBLISHED = """
SELECT number, path FROM policy WHERE deleted IS NULL AND number IN (
    SELECT candidate_policy FROM round WHERE phase = 'done'
    UNION SELECT policy FROM gate_trial JOIN round ON round.number = gate_trial.round WHERE phase = 'done')
ORDER BY number"""
"""Policies that finished rounds made, including those replaced by an accepted shrunk one."""

LINE = """
SELECT policy.number, policy.parent, policy.other_parent, policy.alpha, policy.made_by, policy.sha256,
       coalesce(gate_trial.round, round.number) AS round, coalesce(gate_trial.reason, round.reason) AS reason,
       CASE gate_trial.accepted WHEN 1 THEN 'accepted' WHEN 0 THEN 'rejected' ELSE round.decision END AS decision,
       training.items, training.steps, training.loss, training.recipe,
       (SELECT count(*) FROM pair WHERE pair.round = training.round) AS pairs
FROM policy LEFT JOIN round ON round.candidate_policy = policy.number
LEFT JOIN gate_trial ON gate_trial.policy = policy.number
LEFT JOIN training ON training.candidate = policy.number
WHERE policy.number IN (SELECT value FROM json_each(?)) ORDER BY policy.number"""

HASHES = "SELECT hash FROM question WHERE split = ? ORDER BY hash"

TEACHER = """
SELECT model, count(*) AS calls, sum(cost_usd) AS cost_usd FROM teacher_call
WHERE round <= ? AND status = 'answered' GROUP BY model ORDER BY model"""


def write_cards(ctx: Context) -> None:
    """Write the missing cards. The hash of weights covers safetensors files only, so a card does not change it."""
    for row in ctx.store.rows(PUBLISHED):
        directory = ctx.policy_directory(row["path"])
        path = directory / FILE_NAME
        if path.exists() or not directory.is_dir():
            continue
        temporary = path.with_suffix(".tmp")
        text = card(ctx.store, ctx.config, row["number"], is_vision=ctx.encoder.is_vision)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)


def card(store: Store, config: Config, number: int, *, is_vision: bool) -> str:
    """The card of one policy: front matter for the Hub, then the text."""
    line = store.rows(LINE, json.dumps(sorted(_ancestors(store, number))))
    policy, base = line[-1], line[0]
    trained = next((row for row in line if row["number"] == policy["other_parent"]), policy)
    run, split = store.path.parent.resolve().name, reported_split(store)
    accuracies = {row["number"]: {s: accuracy(store, row["number"], s, split) for s in STYLES} for row in line}
    title = f"{run}, policy {number}"
    sections = [
        f"---\n{_front_matter(config, title, accuracies[number], split, is_vision=is_vision)}\n---",
        f"# {_escaped(title)}",
        f"Made by Ratchet, a loop of on-policy sampling, judging and DPO: {_making(policy, trained)}"
        f" The gate's decision: {policy['decision']} ({_escaped(policy['reason'])}).",
        "## Held-out accuracy",
        f"Greedy answers to the questions of split {_escaped(split)}, which are never trained on, with 95% Wilson"
        " intervals. `cot` reasons first, `direct` answers at once.",
        _table(("policy", "style", "questions", "accuracy", "95% interval"), _accuracies(line, accuracies)),
        "## How it was made",
        _table(("", ""), _origin(store, config, policy, base)),
        _table(("policy", "parent", "round", "method", "pairs", "items", "steps", "loss", "decision"), _lineage(line)),
        "Settings of its own update:" if trained is policy else f"Settings of policy {trained['number']}'s update:",
        _fenced(json.dumps(json.loads(trained["recipe"] or "{}"), indent=2, ensure_ascii=False), "json"),
        "## Data",
        "Each row's hash is the sha256 of its questions' hashes, sorted, one a line; a question's covers its text,"
        " accepted answers, judge, options and the bytes of its images.",
        _table(("split", "questions", "sha256"), _data(store)),
        "## How to load it",
        _fenced(_loading(is_vision=is_vision), "python"),
        "`vllm serve .` serves it with an OpenAI-compatible interface. It was trained on this prompt, where"
        " `{question}` is the question's text:",
        _fenced(str(getattr(config.prompts, config.sampling.style))),
        *_chat(config),
    ]
    return "\n\n".join(sections) + "\n"


def _chat(config: Config) -> list[str]:
    """Lines about the system prompt and the chat template's options; none in most runs."""
    policy, parts = config.policy, list[str]()
    if policy.system_prompt is not None:
        parts += ["with this system prompt:", _fenced(policy.system_prompt)]
    if policy.chat_template_options:
        parts += ["with these options of the chat template:", _fenced(json.dumps(policy.chat_template_options), "json")]
    return parts


def _ancestors(store: Store, number: int) -> set[int]:
    """The policy and all its ancestors; the view `policy_lineage` has only one parent of each."""
    parents, left, found = policy_parents(store), {number}, set[int]()
    while left:
        found |= left
        left = {parent for each in left for parent in parents[each]} - found
    return found


def _making(policy: Any, trained: Any) -> str:
    if policy["alpha"] is None:
        how = f"trained ({_escaped(policy['made_by'])}) from policy {policy['parent']}"
        return f"the candidate of round {policy['round']}, {how}."
    return (
        f"the shrunk candidate of round {policy['round']}. Its weights lie {policy['alpha']:g} of the way from policy"
        f" {policy['parent']} to policy {trained['number']}, which was trained ({_escaped(trained['made_by'])}) from"
        f" policy {trained['parent']} and rejected."
    )


def _is_local(model: str) -> bool:
    return Path(model).exists() or model.startswith(PREFIX)


def _front_matter(config: Config, title: str, accuracies: dict[str, Any], split: str, *, is_vision: bool) -> str:
    """YAML that the Hub reads; `base_model` only if it is on the Hub."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="visual-question-answering" if is_vision else "question-answering",
            dataset_type=str(config.questions.path) if config.questions.on_hub else config.questions.source,
            dataset_name=config.questions.dataset or config.questions.source,
            dataset_split=split,
            metric_type="accuracy",
            metric_name=f"accuracy ({style})",
            metric_value=round(figure["accuracy"], 4),
        )
        for style, figure in accuracies.items()
        if figure
    ]
    data = ModelCardData(
        base_model=None if _is_local(config.policy.model) else config.policy.model,
        library_name="transformers",
        pipeline_tag="image-text-to-text" if is_vision else "text-generation",
        tags=["ratchet", "trl", *(["dpo"] if config.pairs.per_question else [])],
        model_name=title,
        eval_results=results or None,
    )
    text: str = data.to_yaml()
    return text


def _accuracies(line: Sequence[Any], accuracies: dict[int, Any]) -> Iterable[Sequence[object]]:
    policy = line[-1]
    shown = {line[0]["number"]: "the base model", policy["parent"]: "its parent", policy["number"]: "this one"}
    if policy["other_parent"] is not None:
        shown[policy["other_parent"]] = "the trained candidate"
    for number, name in sorted(shown.items(), reverse=True):
        for style in STYLES:
            if figure := accuracies[number][style]:
                low, high = 100 * figure["low"], 100 * figure["high"]
                percent = f"{100 * figure['accuracy']:.1f}%"
                yield f"{number} ({name})", style, figure["questions"], percent, f"[{low:.1f}, {high:.1f}]"


def _origin(store: Store, config: Config, policy: Any, base: Any) -> Iterable[Sequence[object]]:
    model = Path(config.policy.model)
    teachers = [_teacher(config, row) for row in store.rows(TEACHER, policy["round"])]
    recorded = store.row("SELECT seed, packages, created FROM run")
    assert recorded is not None
    packages = ", ".join(f"{name} {version}" for name, version in json.loads(recorded["packages"]).items())
    yield "weights", f"sha256 `{policy['sha256']}`"
    yield "base model", f"{_escaped(model.name if model.exists() else config.policy.model)}, sha256 `{base['sha256']}`"
    yield "recipe", _escaped(Path(config.recipe).stem if config.recipe else "its own")
    yield "rounds before it", max(0, (policy["round"] or 0) - 1)
    yield "teacher", "; ".join(teachers) or "none"
    yield "seed", recorded["seed"]
    yield "run began", recorded["created"]
    yield "packages", _escaped(packages)


def _teacher(config: Config, row: Any) -> str:
    cost = "" if row["cost_usd"] is None else f", ${row['cost_usd']:.2f}"
    stand_in = " (the embedded stand-in, no model)" if config.teacher.base_url == EMBEDDED else ""
    return f"{_escaped(row['model'])}{stand_in}, {row['calls']} answers{cost}"


def _lineage(line: Sequence[Any]) -> Iterable[Sequence[object]]:
    for row in line:
        loss = None if row["loss"] is None else f"{row['loss']:.4f}"
        shrunk = row["alpha"] is not None
        facts = (
            f"{row['parent']} and {row['other_parent']}" if shrunk else row["parent"],
            row["round"],
            f"{_escaped(row['made_by'])}, {row['alpha']:g} of the way" if shrunk else _escaped(row["made_by"]),
            row["pairs"] or None,
            row["items"],
            row["steps"],
        )
        yield row["number"], *("-" if each is None else each for each in (*facts, loss, row["decision"]))


def _data(store: Store) -> Iterable[Sequence[object]]:
    for row in store.rows("SELECT split, count(*) AS questions FROM question GROUP BY split ORDER BY split"):
        digest = hashlib.sha256()
        for each in store.stream(HASHES, row["split"]):
            digest.update(f"{each['hash']}\n".encode())
        yield _escaped(row["split"]), row["questions"], f"`{digest.hexdigest()}`"


def _loading(*, is_vision: bool) -> str:
    kind = "AutoModelForImageTextToText" if is_vision else "AutoModelForCausalLM"
    reader = "AutoProcessor" if is_vision else "AutoTokenizer"
    return (
        f"from transformers import {kind}, {reader}\n\n"
        'directory = "."  # where this file lies\n'
        f"model = {kind}.from_pretrained(directory)\n"
        f"{reader.removeprefix('Auto').lower()} = {reader}.from_pretrained(directory)"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _escaped(text: object) -> str:
    """Text on one line that Markdown and HTML show unchanged."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", html.escape(line, quote=False))


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
