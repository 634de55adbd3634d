"""Scores a file of preference rows by a judge run, line by line, in both orders."""

import hashlib
import json
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from PIL.Image import Image

from loop.context import StartSampler
from loop.errors import InputError
from loop.evaluation.statistics import wilson_interval
from loop.judge_runs.ask import read_verdict, share_of_first
from loop.judge_runs.judge_run import JudgeRun
from loop.questions.preferences import Preference, read_preference
from loop.questions.sources.jsonl import read_image
from loop.questions.sources.run_store import SOURCE, on_one_line
from loop.swap_and_prove import engine_settings
from policies.encoding import Encoder, Prompt
from policies.sampler import Chain, Request, Sampler
from policies.vllm_engine import VllmEngine
from store.image_decoding import decode_image, inspect_image

PREFERS = {1.0: 1, 0.0: 2}


@dataclass
class PreferenceSummary:
    """Counts of judged rows. A row is right if the better candidate wins in both orders."""

    rows: int = 0
    skipped: int = 0
    unread: int = 0
    consistent: int = 0
    known: int = 0
    correct: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The figures; the interval is Wilson's, 95%, over rows that say which candidate is better."""
        low, high = wilson_interval(self.correct, self.known)
        return {
            "rows": self.rows,
            "skipped": self.skipped,
            "unread": self.unread,
            "consistent": self.consistent / self.rows if self.rows else None,
            "known": self.known,
            "accuracy": self.correct / self.known if self.known else None,
            "low": low if self.known else None,
            "high": high if self.known else None,
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Rows:
    """The rows of a file, and their images by digest."""

    contents: list[dict[str, Any]] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    skipped: int = 0


def judge_rows(
    lines: Iterable[bytes],
    out: TextIO,
    judge: JudgeRun,
    *,
    folder: Path,
    make_encoder: Callable[..., Encoder] = Encoder,
    start_sampler: StartSampler = VllmEngine,
    skip_bad: bool = False,
    report_bad: Callable[[str], object] = lambda _: None,
    progress: Callable[[int], object] = lambda _: None,
) -> PreferenceSummary:
    """Write each row with `preferred` (1, 2, or null where the orders disagree), `share_of_first`, and both `outputs`.

    A row is `{"question", "candidates", "images"?, "candidate_images"?, "better"?}`; images lie under `folder`. Raises
    InputError naming the line of an invalid row, unless `skip_bad`.
    """
    started = time.monotonic()
    rows = _read(lines, folder, skip_bad, report_bad)
    summary = PreferenceSummary(skipped=rows.skipped)
    if not rows.preferences:
        return summary
    asked = [_prompts(judge, preference) for preference in rows.preferences]
    most = max(len(prompt.images) for prompts in asked for prompt in prompts)
    sampler = _start(judge, rows, most, make_encoder, start_sampler)
    requests = [
        Request((number, order), prompt, 0.0, judge.config.sampling.max_tokens)
        for number, prompts in enumerate(asked)
        for order, prompt in enumerate(prompts)
    ]
    found: dict[Hashable, Chain] = {}
    try:
        for chain in sampler.sample(requests):
            found[chain.key] = chain
            progress(len(found) % 2)  # a row has two
    finally:
        sampler.close()
    for number, content in enumerate(rows.contents):
        chains = [found[number, order] for order in (0, 1)]
        verdicts = [read_verdict(judge.style, chain.text, chain.finish_reason) for chain in chains]
        share = share_of_first(*verdicts)
        preferred = PREFERS.get(share)
        _count(summary, content, verdicts, preferred)
        said = {"preferred": preferred, "share_of_first": share, "outputs": [chain.text for chain in chains]}
        out.write(json.dumps({**content, **said}) + "\n")
    summary.seconds = time.monotonic() - started
    return summary


def _count(
    summary: PreferenceSummary, content: dict[str, Any], verdicts: list[str | None], preferred: int | None
) -> None:
    summary.rows += 1
    summary.unread += None in verdicts
    summary.consistent += preferred is not None
    if "better" in content:
        summary.known += 1
        summary.correct += preferred == content["better"]


def _read(lines: Iterable[bytes], folder: Path, skip_bad: bool, report_bad: Callable[[str], object]) -> Rows:
    rows = Rows()

    def image(name: str, where: str) -> bytes:
        content = read_image(folder, name, where)
        inspect_image(content, where)
        return content

    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content, preference = _row(line, f"line {number}", partial(image, where=f"line {number}"))
        except InputError as error:
            if not skip_bad:
                raise
            rows.skipped += 1
            report_bad(str(error))
            continue
        rows.contents.append(content)
        rows.preferences.append(preference)
        for each in (*preference.images, *preference.candidate_images[0], *preference.candidate_images[1]):
            rows.images[hashlib.sha256(each).hexdigest()] = each
    return rows


def _row(line: bytes, where: str, image: Callable[[str], bytes]) -> tuple[dict[str, Any], Preference]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("question"), str) or "candidates" not in content:
        raise InputError(f"{where}: must be an object with 'question' (a text) and 'candidates' (two texts)")
    images = content.get("images", [])
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        raise InputError(f"{where}: 'images' must be a list of paths")
    return content, read_preference({"better": 1, **content}, where, image)


def _prompts(judge: JudgeRun, preference: Preference) -> list[Prompt]:
    """The prompt in both orders, laid out as in the judge's own run."""
    questions = judge.config.questions
    if questions.source == SOURCE:
        first, second = (on_one_line(text) for text in preference.candidates)
        preference = replace(preference, candidates=(first, second))
    template: str = getattr(judge.config.prompts, judge.style)
    return [
        Prompt(
            template.replace("{question}", each.text),
            tuple(hashlib.sha256(image).hexdigest() for image in each.images),
        )
        for each in preference.in_both_orders(questions.preference_layout)
    ]


def _start(
    judge: JudgeRun, rows: Rows, max_images: int, make_encoder: Callable[..., Encoder], start_sampler: StartSampler
) -> Sampler:
    """An engine that holds the judge's weights, proved by their sha256."""

    def load(digest: str) -> Image:
        return decode_image(rows.images[digest])

    model, config = str(judge.directory), judge.config
    policy = config.policy
    encoder = make_encoder(model, load, trust_remote_code=policy.trust_remote_code, chat_settings=policy.chat)
    sampler = start_sampler(model, encoder, engine_settings(config, max_images), config.run.library_seed())
    loaded = sampler.load_weights(judge.directory)
    if loaded != judge.sha256:
        raise InputError(f"judge run {judge.run_dir}: {judge.directory} changed while it was read; begin again")
    return sampler
