"""Verdicts: the result of judging one output."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from judges.errors import JudgeError
from judges.extraction import answer_of, last_marked, without_end_of_turn
from judges.guards import guard_flags
from judges.spec import Judge

Outcome = Literal["correct", "wrong", "unparsable", "truncated", "judge_error"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
ANSWERED = ("correct", "wrong", "judge_error")
"""Outcomes of outputs that have an answer: only these vote."""


class Verdict(NamedTuple):
    """Extracted answer (None if none could be read), score in [0, 1], outcome, and flags.

    Flags are those of `judges.guards`, and for a `judge_error` its reason.
    """

    extracted: str | None
    score: float
    outcome: Outcome
    flags: tuple[str, ...] = ()


class Output(NamedTuple):
    """One output to be judged: the text, the question's key, and how it was asked and ended.

    `needs_marker` is true for chains of thought; a direct answer needs none. `finish_reason`
    is the sampler's: "length" if the output reached its limit.
    """

    text: str
    answers: Sequence[str]
    choices: Sequence[str] = ()
    finish_reason: str = "stop"
    needs_marker: bool = False


def give_verdict(
    judge: Judge,
    text: str,
    answers: Sequence[str],
    *,
    finish_reason: str,
    needs_marker: bool,
    choices: Sequence[str] = (),
) -> Verdict:
    """Extract the final answer from `text` and match it against the accepted answers.

    Nothing is guessed: an output that reached its length limit is `truncated`, one without an answer is
    `unparsable`, and if the rule itself fails the outcome is `judge_error`, with the reason among the flags. None of
    these is `wrong`.
    """
    return _verdict(judge, Output(text, answers, choices, finish_reason, needs_marker))


def _verdict(judge: Judge, output: Output) -> Verdict:
    extracted, flags, settled = read(judge, output)
    if settled is not None:
        return settled
    assert extracted is not None
    try:
        score: float | JudgeError = judge.score(extracted, output.answers, output.choices)
    except JudgeError as error:
        score = error
    return make_verdict(judge, extracted, flags, score)


def give_verdicts(judge: Judge, outputs: Iterable[Output]) -> list[Verdict]:
    """`give_verdict` for many outputs with one judge; `math` judges them in parallel."""
    if judge.rule.score_many is None:
        return [_verdict(judge, output) for output in outputs]
    outputs = list(outputs)
    found = [read(judge, output) for output in outputs]
    open_ = [n for n, (_, _, settled) in enumerate(found) if settled is None]
    scores = judge.rule.score_many([(found[n][0], outputs[n].answers) for n in open_], **judge.options)
    verdicts = {n: settled for n, (_, _, settled) in enumerate(found) if settled is not None}
    for n, score in zip(open_, scores, strict=True):
        verdicts[n] = make_verdict(judge, found[n][0] or "", found[n][1], score)
    return [verdicts[n] for n in range(len(outputs))]


def read(judge: Judge, output: Output) -> tuple[str | None, tuple[str, ...], Verdict | None]:
    """The extracted answer, the guards' flags, and the verdict if extraction alone decides it."""
    rule = judge.rule
    if rule.read is not None:
        text = output.text.strip()
        found = rule.read(text, needs_marker=output.needs_marker)
        extracted = None if found is None else found.answer
    else:
        text = without_end_of_turn(output.text)
        found = last_marked(text, judge.markers)
        extracted = answer_of(text, found, needs_marker=output.needs_marker, as_written=rule.as_written)
    flags = guard_flags(text, found, extracted, needs_marker=output.needs_marker, choices=output.choices)
    if rule.flags is not None:
        flags = (*flags, *rule.flags(text, extracted))
    if output.finish_reason == "length":
        return extracted, flags, Verdict(extracted, 0.0, "truncated", flags)
    if extracted is None:
        return None, flags, Verdict(None, 0.0, "unparsable", flags)
    return extracted, flags, None


def make_verdict(judge: Judge, extracted: str, flags: tuple[str, ...], score: float | JudgeError) -> Verdict:
    """The verdict for a score, or for a judge's failure to give one."""
    if isinstance(score, JudgeError):
        return Verdict(extracted, 0.0, "judge_error", (*flags, score.reason))
    return Verdict(extracted, score, "correct" if score >= judge.correct_from else "wrong", flags)
