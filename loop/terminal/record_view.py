"""One record of `show` on a terminal: wrapped chains, differences marked, images, verifier scores as colour."""

import difflib
import json
import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from loop.reading.records import Record
from loop.reading.scored_tokens import Piece, scored_pieces
from loop.reading.text import format_duration, format_memory
from loop.terminal.draw_image import Picture, protocol
from loop.terminal.escape import block, one_line
from loop.terminal.record_lists import OUTCOME_STYLES, Columns, filled_columns, format_cell, format_score, make_table
from store import Store
from store.questions import image_bytes

SIDE_BY_SIDE_WIDTH = 110
"""Columns from which on two chains are shown side by side."""
WORDS_COMPARED = 2_000
"""difflib's time grows with the square of the words; longer chains are shown without their difference."""
DARKEST_SHADE = 95
"""The darkest shade that a terminal of 256 colours does not show as black."""
SHARES = ("pass_rate", "pass_at_k", "majority", "unparsable", "truncated", "flagged", "judge_errors")
FULL_COLOUR = 2.0
"""The verifier score of a token, in nats, at which its colour is strongest."""


def show_record(terminal: Console, store: Store, kind: str, record: Record) -> None:
    """Print one record with everything that belongs to it."""
    for part in RECORDS[kind](terminal, store, record):
        # rich forgets a text's own `no_wrap` when it prints it; a wrapped command cannot be copied.
        terminal.print(part, soft_wrap=isinstance(part, Text) and part.no_wrap is True)


def _fields(*pairs: tuple[str, Any]) -> Table:
    """Print labels and values; None is left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in pairs:
        if value not in (None, "", []):
            grid.add_row(label, value if isinstance(value, Text) else format_cell(value))
    return grid


def _chain(title: str, text: str | Text, outcome: str | None = None) -> Panel:
    body = text if isinstance(text, Text) else Text(block(text))
    style = OUTCOME_STYLES.get(outcome or "", "yellow" if outcome else "blue")
    return Panel(body, title=Text(one_line(title)), title_align="left", border_style=style)


def _question_parts(terminal: Console, store: Store, record: Record) -> Iterator[RenderableType]:
    yield _fields(
        ("question", f"{record['id']}  ({record['split']}, judge {record['judge']}, from {record['source']})"),
        ("text", Text(block(record["text"]), style="bold")),
        ("accepted", record["answers"]),
        ("choices", record["choices"]),
        ("kind", record["kind"]),
        ("own id", record["external_id"]),
        (
            "suspect",
            None if record["suspect"] is None else f"given up in round {record['suspect']}: teacher failed twice",
        ),
        ("unusable", record["unusable"]),
    )
    for image in record["images"]:
        yield from _image(terminal, store, image)


def _image(terminal: Console, store: Store, image: Record | str) -> Iterator[RenderableType]:
    digest = image if isinstance(image, str) else image["sha256"]
    content, form = image_bytes(store, digest)
    how = protocol(terminal, os.environ)
    if how is not None:
        yield Picture(content, how)
    size = "" if isinstance(image, str) else f", {image['width']} x {image['height']}"
    yield Text(f"image {digest} ({form}{size}; --save-images FOLDER)", style="dim")


def _question(terminal: Console, store: Store, record: Record) -> Iterator[RenderableType]:
    yield from _question_parts(terminal, store, record)
    if record["rounds"]:
        columns = {"round": "round", "serving": "serving_policy", "samples": "samples", "right": "correct"}
        columns |= {"majority": "majority", "share": "share", "vote": "outcome", "fallback": "fallback"}
        yield Text("in the rounds", style="bold")
        yield make_table(filled_columns(record["rounds"], **columns))
    if record["answers_held_out"]:
        yield Text("held-out answers", style="bold")
    for _, same in groupby(record["answers_held_out"], lambda each: (each["style"], each["split"])):
        answers = list(same)
        if len(answers) == 2:
            before, after = ((_held_out_title(each), each) for each in answers)
            yield _side_by_side(terminal, before, after)
        else:
            yield from (_chain(_held_out_title(each), each["text"], each["outcome"]) for each in answers)
    for each in record["verified"]:
        yield _verified(terminal, store, each)


def _held_out_title(answer: Record) -> str:
    return f"policy {answer['policy']}, {answer['split']}, {answer['style']}: {_verdict(answer)}"


def _verdict(answer: Record) -> str:
    return f"{answer['outcome']} ({'no answer' if answer['extracted'] is None else answer['extracted']})"


def _verified(terminal: Console, store: Store, record: Record) -> Panel:
    """A sampled held-out answer; tokens are green if the verifier's score is positive, red if negative."""
    title = f"policy {record['policy']}, sample {record['index']}: {_verdict(record)}"
    scores = record.get("token_scores")
    if scores is None:
        return _chain(title, record["text"], record["outcome"])
    tokens = record["token_ids"]
    numbered = (Piece(f"<{token}>", score) for token, score in zip(tokens, scores, strict=False))
    pieces = scored_pieces(store, record["policy"], tokens, scores) or tuple(numbered)
    text = Text()
    for piece in pieces:
        text.append(block(piece.text), style=_shade(piece.score))
    worst = sorted(pieces, key=lambda piece: piece.score)[:3]
    note = ", ".join(f"{one_line(piece.text)!r} {piece.score:+.2f}" for piece in worst)
    text.append(f"\nlowest: {note}", style="dim")
    earlier, later = sorted((record["policy"], record["reference"]))
    score = f"verifier {record['verifier_score']:+.2f} (policy {later} over policy {earlier})"
    return _chain(f"{title}, {score}", text, record["outcome"])


def _shade(score: float) -> str:
    share = math.tanh(abs(score) / FULL_COLOUR)
    level = DARKEST_SHADE + round((255 - DARKEST_SHADE) * share / 2)
    colour = f"rgb(0,{level},0)" if score > 0 else f"rgb({level},0,0)"
    return f"white on {colour}" if share > 0.02 else ""


def _sample(terminal: Console, store: Store, record: Record) -> Iterator[RenderableType]:
    yield from _question_parts(terminal, store, record["of_question"])
    yield _fields(
        ("sample", f"{record['id']}  (round {record['round']}, {record['style']}, index {record['index']})"),
        (
            "author",
            record["author"] if record["policy"] is None else f"policy {record['policy']}, weights {record['weights']}",
        ),
        ("seed", record["seed"]),
        ("temperature", record["temperature"]),
        ("tokens", f"{record['tokens']}, ended by {record['finish_reason']}"),
        ("log-probability", record["logprob"]),
        ("judge", None if record["judge"] is None else f"{record['judge']}, version {record['judge_version']}"),
        ("answer", record["extracted"]),
        ("outcome", None if record["outcome"] is None else f"{record['outcome']}, score {record['score']:g}"),
        ("rewards", [f"{name} {value:g}" for name, value in record["rewards"].items()]),
        (
            "judged again",
            [f"{_verdict(each)} by {each['judge']}, version {each['judge_version']}" for each in record["rejudged"]],
        ),
        ("in pairs", [f"{each['pair']} ({'chosen' if each['chosen'] else 'rejected'})" for each in record["pairs"]]),
    )
    yield _chain("chain", record["text"], record["outcome"])


def _pair(terminal: Console, store: Store, record: Record) -> Iterator[RenderableType]:
    origin = None if record["imported_from"] is None else f"{record['imported_from']}, line {record['imported_line']}"
    yield _fields(
        ("pair", f"{record['pair']}  (round {record['round']}, rule {record['rule']}, weight {record['weight']:g})"),
        ("question", Text(f"{record['question']}  {block(record['question_text'])}", style="bold")),
        ("accepted", record["answers"]),
        ("imported from", origin),
    )
    for digest in record["images"]:
        yield from _image(terminal, store, digest)
    chosen, rejected = ({k.removeprefix(f"{side}_"): v for k, v in record.items()} for side in ("chosen", "rejected"))
    yield _side_by_side(
        terminal, (_side_title("rejected", rejected), rejected), (_side_title("chosen", chosen), chosen)
    )


def _side_title(name: str, side: Record) -> str:
    by = f"policy {side['policy']}" if side["policy"] is not None else side["author"]
    return f"{name}: sample {side['sample']} by {by}, {side['outcome']} ({side['answer']})"


def _side_by_side(terminal: Console, old: tuple[str, Record], new: tuple[str, Record]) -> RenderableType:
    """Two chains with their differences marked; side by side if the terminal is wide enough."""
    styles = [OUTCOME_STYLES.get(side["outcome"], "yellow") for _, side in (old, new)]
    texts = mark_differences(old[1]["text"], new[1]["text"], styles, plain=terminal.color_system is None)
    panels = [_chain(title, text, side["outcome"]) for (title, side), text in zip((old, new), texts, strict=True)]
    if terminal.width < SIDE_BY_SIDE_WIDTH:
        return Group(*panels)
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(*panels)
    return grid


def mark_differences(
    old: str, new: str, styles: Sequence[str] = ("red", "green"), *, plain: bool = False
) -> tuple[Text, Text]:
    """Both texts; words that only one of them has are marked by style, or by [-these-] and {+these+}."""
    words: list[list[str]] = [re.findall(r"\S+\s*|\s+", block(text)) for text in (old, new)]
    if max(map(len, words)) > WORDS_COMPARED:
        return Text("".join(words[0])), Text("".join(words[1]))
    bare = [[word.strip() for word in each] for each in words]
    marks = (("[-", "-]", f"bold underline {styles[0]}"), ("{+", "+}", f"bold underline {styles[1]}"))
    texts = (Text(), Text())
    for tag, a, b, c, d in difflib.SequenceMatcher(None, bare[0], bare[1], autojunk=False).get_opcodes():
        for text, part, (before, after, style) in zip(texts, (words[0][a:b], words[1][c:d]), marks, strict=True):
            run = "".join(part)
            inner = run.rstrip()
            if tag == "equal" or not inner:
                text.append(run)
                continue
            text.append(f"{before}{inner}{after}" if plain else inner, style="" if plain else style)
            text.append(run[len(inner) :])
    return texts


def _round(_: Console, store: Store, record: Record) -> Iterator[RenderableType]:
    number, before, after = record["round"], record["serving_policy"], record["policy"]
    teacher = f"{record['teacher_kept']} kept of {record['teacher_asked']} asked, ${record['teacher_usd']:.2f}"
    ended = "" if record["finished"] is None else f", ended {record['finished']}"
    fallback = f"{record['fallback_solved']} solved of {record['fell_back']}, {record['suspects']} suspect"
    yield _fields(
        ("round", f"{number}  (phase {record['phase']}, began {record['started']}{ended})"),
        ("decision", record["decision"]),
        ("reason", record["reason"]),
        ("policies", f"serving {before}{'' if after is None else f', candidate {after}'}"),
        ("samples", f"{record['samples']:,} of {record['questions']:,} questions"),
        *((name.replace("_", " "), _share(record[name])) for name in SHARES),
        ("teacher", teacher if record["teacher_asked"] else None),
        ("fallback", fallback if record["fell_back"] else None),
        ("pairs", record["pairs"]),
        ("loss", record["training_loss"]),
        ("seconds", ", ".join(f"{phase} {format_duration(value)}" for phase, value in record["seconds"].items())),
        ("GiB", format_memory(record["memory"])),
    )
    yield make_table(_accuracies([{"split": "held-out", "style": s, **f} for s, f in record["accuracy"].items() if f]))
    if len(record["trials"]) > 1:
        yield Text("before the gate", style="bold")
        yield make_table(_trials(record["trials"]))
    if record["answers"]:
        yield Text("answers, held out, and the weight of pairs for and against them", style="bold")
        yield make_table(_answers(record["answers"]))
    if number and after is not None:
        against = record["compared_with"] if record["compared_with"] is not None else before
        show = f"show {shlex.quote(one_line(store.path.parent))}"
        yield Text(
            f"what it changed: {show} question --changed-since {against} --policy {after} --outcome wrong\n"
            f"what it was trained on: {show} pair --round {number}\n"
            f"where it was wrong: {show} sample --round {number} --outcome wrong",
            style="dim",
            no_wrap=True,
        )


def _trials(trials: Sequence[Record]) -> Columns:
    shown = [
        {
            "policy": each["policy"],
            "alpha": "1" if each["alpha"] is None else f"{each['alpha']:g}",
            "questions": each["questions"],
            "score": format_score(each),
            "accepted": "accepted" if each["accepted"] else "rejected",
        }
        for each in trials
    ]
    return filled_columns(
        shown, policy="policy", alpha="alpha", questions="questions", score="score", decision="accepted"
    )


def _answers(answers: Sequence[Record]) -> Columns:
    shown = [
        {
            "answer": one_line(each["answer"]),
            **{name: _share(each[name]) for name in ("accepted", "before", "after")},
            **{name: f"{each[name]:g}" for name in ("chosen", "rejected")},
        }
        for each in answers
    ]
    return filled_columns(
        shown,
        answer="answer",
        accepted="accepted",
        before="before",
        after="after",
        chosen="chosen",
        rejected="rejected",
    )


def _share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f} %"


def _accuracies(figures: Sequence[Record]) -> Columns:
    shown = [{**each, "share": _interval(each), **_pairwise(each.get("pairwise"))} for each in figures]
    columns = {"split": "split", "style": "style", "questions": "questions", "right": "correct", "accuracy": "share"}
    return filled_columns(shown, **columns, both_orders="both_orders", consistent="consistent")


def _pairwise(figure: Record | None) -> Record:
    if figure is None:
        return {}
    return {"both_orders": _interval(figure), "consistent": _share(figure["consistent"])}


def _interval(figure: Record) -> str:
    return f"{100 * figure['accuracy']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def _policy(_: Console, __: Store, record: Record) -> Iterator[RenderableType]:
    training, alpha = record["training"] or {}, record["alpha"]
    ends = f"of the way from policy {record['parent']} to policy {record['other_parent']}"
    yield _fields(
        ("policy", f"{record['policy']}  (made by {record['made_by']}, {record['created']})"),
        ("weights", f"{record['sha256']} in {record['path']}"),
        ("shrunk", None if alpha is None else f"{alpha:g} {ends}"),
        ("deleted", record["deleted"]),
        ("ancestors", record["ancestors"]),
        ("children", record["children"]),
        ("round", record["round"]),
        ("decision", record["decision"]),
        (
            "trained",
            f"{training['items']} items, {training['steps']} steps, loss {training['loss']:.4f}" if training else None,
        ),
        ("recipe", Text(block(json.dumps(training["recipe"], indent=1))) if training else None),
    )
    yield make_table(_accuracies(record["accuracies"]))
    if record["trials"]:
        yield Text("before the gate", style="bold")
        yield make_table(_trials_of_policy(record["trials"]))
        yield _fields(*((f"round {each['round']}", each["reason"]) for each in record["trials"]))


def _trials_of_policy(trials: Sequence[Record]) -> Columns:
    shown = [
        {
            **each,
            "score": format_score(each),
            "accepted": "accepted" if each["accepted"] else "rejected",
            "best": "yes" if each["best"] else "no",
        }
        for each in trials
    ]
    first = filled_columns(shown, round="round", against="compared_with", questions="questions", score="score")
    return first + filled_columns(shown, decision="accepted", best="best")


RECORDS: dict[str, Callable[[Console, Store, Record], Iterator[RenderableType]]] = {
    "question": _question,
    "sample": _sample,
    "pair": _pair,
    "round": _round,
    "policy": _policy,
}


def save_images(store: Store, record: Record, folder: Path) -> list[Path]:
    """Write a record's images into a folder, each named by its sha256."""
    images = record.get("images") or record.get("of_question", {}).get("images") or []
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for image in images:
        digest = image if isinstance(image, str) else image["sha256"]
        content, form = image_bytes(store, digest)
        paths.append(folder / f"{digest}.{form}")
        paths[-1].write_bytes(content)
    return paths
