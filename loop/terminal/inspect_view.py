"""`inspect` and the last part of `init` on a terminal: tables of lengths and answers, prompts as they are asked."""

import os
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from loop.evaluation.pass_rate import PassRate
from loop.questions.inspection import Answers, Inspection, Lengths
from loop.questions.prompt_view import Example, Spread
from loop.terminal.draw_image import Picture, protocol
from loop.terminal.escape import block, one_line
from loop.terminal.record_lists import OUTCOME_STYLES, make_table

ReadImage = Callable[[str], bytes]
SELDOM = 5
"""The number of questions that are listed, of those that the untrained model solves least often."""


def inspection_parts(terminal: Console, found: Inspection, read_image: ReadImage) -> Iterator[RenderableType]:
    """Everything of an inspection, in the order in which it is shown."""
    yield Text("tokens", style="bold")
    yield _lengths(found.lengths)
    yield room_line(found)
    yield Text("accepted answers", style="bold")
    yield _answers(found.answers)
    for example in found.examples:
        yield from example_parts(terminal, example, read_image)


def room_line(found: Inspection) -> Text:
    """A line that says how many tokens prompt and answer may have together, and how many questions exceed them."""
    if found.room is None:
        return Text("neither the model nor engine.max_model_len says how long prompt and answer may be")
    lost = f"; {found.unusable:,} questions are too long and would not be asked" if found.unusable else ""
    return Text(
        f"prompt, images and max_tokens may have {found.room:,} tokens together (engine.max_model_len or the model's"
        f" own limit){lost}",
        style="yellow" if found.unusable else "",
    )


def example_parts(terminal: Console, example: Example, read_image: ReadImage) -> Iterator[RenderableType]:
    """One prompt in a frame, its images, and what the judge says of the accepted answer."""
    how = protocol(terminal, os.environ)
    pictures = [Picture(read_image(image), how) for image in example.images] if how is not None else []
    sizes = ", ".join(f"{width} x {height}" for width, height in example.sizes)
    tokens = f"{example.prompt_tokens} tokens" + (f", {example.image_tokens} of images ({sizes})" if sizes else "")
    title = f"{example.where}, {example.split}" + (f", {example.kind}" if example.kind else "")
    body = Group(*pictures, Text(block(example.chat)))
    yield Panel(body, title=Text(one_line(title)), title_align="left", subtitle=Text(tokens), border_style="blue")
    yield verdict_line(example)


def verdict_line(example: Example) -> Text:
    """The accepted answers, and the judge's verdict on them."""
    accepted = f"accepted: {one_line(' | '.join(dict.fromkeys(example.answers)), 200) or 'none'}"
    if not example.verdict:
        return Text(f"{accepted}  (judge {one_line(example.judge)} is asked in the run)")
    line = Text(f"{accepted}  judge {one_line(example.judge)} says of {one_line(repr(example.shown), 120)}: ")
    return line.append(example.verdict, OUTCOME_STYLES.get(example.verdict, "yellow"))


def pass_rate_parts(found: PassRate) -> Iterator[RenderableType]:
    """Parts that say how often the untrained model is right."""
    yield Text("the model as it is", style="bold")
    outcomes = ", ".join(f"{100 * share:.1f} % {name.replace('_', ' ')}" for name, share in found.outcomes.items())
    yield Text(
        f"pass rate {100 * found.pass_rate:.1f} % of {found.samples:,} samples of {found.questions:,} questions"
        f" ({found.style}): {outcomes}"
    )
    yield Text(
        f"of the questions {100 * found.all_right:.1f} % are always right, {100 * found.mixed:.1f} % sometimes (those"
        f" teach), {100 * found.none_right:.1f} % never"
    )
    seldom = found.answers[:SELDOM]
    yield make_table(
        [
            ("right", [f"{right} of {of}" for _, right, of, _ in seldom]),
            ("question", [text for text, *_ in seldom]),
            ("an output", [output for *_, output in seldom]),
        ],
        100,
    )


def _lengths(lengths: Sequence[Lengths]) -> Table:
    return make_table(
        [
            ("split", [each.split for each in lengths]),
            ("style", [each.style for each in lengths]),
            ("questions", [each.questions for each in lengths]),
            ("prompt p50/p99/max", [_spread(each.prompt) for each in lengths]),
            ("images p50/p99/max", [_spread(each.images) for each in lengths]),
            ("accepted answer", [_spread(each.answer) for each in lengths]),
            ("max_tokens", [each.max_tokens for each in lengths]),
            ("together", [_spread(each.whole) for each in lengths]),
            ("too long", [each.too_long for each in lengths]),
        ]
    )


def _spread(found: Spread) -> str:
    return f"{found.p50}/{found.p99}/{found.most}"


def _answers(answers: Sequence[Answers]) -> Table:
    return make_table(
        [
            ("split", [each.split for each in answers]),
            ("kind", [each.kind for each in answers]),
            ("judge", [each.judge for each in answers]),
            ("questions", [each.questions for each in answers]),
            ("different", [each.different for each in answers]),
            ("most common", [_common(each) for each in answers]),
        ]
    )


def _common(answers: Answers) -> str:
    return ", ".join(f"{one_line(text, 30)} {100 * count / answers.questions:.0f} %" for text, count in answers.common)
