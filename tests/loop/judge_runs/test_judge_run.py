"""Judge runs: which runs may judge others, and what they are asked, with scripted weights in the place of a model."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from loop.config.policy import PolicyConfig
from loop.config.schema import Config
from loop.context import Context
from loop.errors import InputError
from loop.evaluation.answer_questions import evaluate_policy
from loop.evaluation.best_of import best_of
from loop.judge_runs.ask import Match, share_of_first, shares_of_first
from loop.judge_runs.best_of import best_of_by_judge
from loop.judge_runs.judge_run import open_judge_run, require_same_model
from loop.judge_runs.win_rates import win_rates
from loop.pages.attempts import read_question
from loop.pages.render import macro
from loop.reading.accuracy_log import log_rows
from loop.session import open_session, work_on
from loop.terminal.console import Console
from store import open_store
from store.questions import find_questions
from tests.support.killed_runs import JUDGE_TABLES
from tests.support.scripted_run import Script, preferences, run_scripted, scripted_config, scripted_parts

GOOD = "I see {}. ### Answer: {}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on answers, and a finished judge run, both from one base model."""
    folder = tmp_path_factory.mktemp("judge_runs")
    run_scripted(folder / "answers", scripted_config(folder), script=Script(skills=(0.5,)))
    run_scripted(folder / "judge", judge_config(folder), script=Script(skills=(0.7,), read=preferences))
    return folder


def judge_config(folder: Path, **tables: Any) -> Config:
    return scripted_config(folder, **JUDGE_TABLES, **tables)


@contextmanager
def session(folder: Path, script: Script) -> Iterator[Context]:
    config = scripted_config(folder)
    parts = scripted_parts(script, [], lambda _: None)
    with (
        work_on(folder / "answers") as store,
        open_session(store, config, folder / "answers", Console(quiet=True), parts, "evaluate") as (ctx, _),
    ):
        yield ctx


def matches(ctx: Context) -> list[Match]:
    """Easy questions with a right and a wrong chain, the right one first in every other match."""
    found = find_questions(ctx.store, "text LIKE 'easy%' ORDER BY id")
    chains = [(GOOD.format(question.answers[0], question.answers[0]), GOOD.format("x", "x")) for question in found]
    return [
        Match(question, *(pair if n % 2 else pair[::-1]))
        for n, (question, pair) in enumerate(zip(found, chains, strict=True))
    ]


def copied(runs: Path, tmp_path: Path) -> Path:
    shutil.copytree(runs / "judge", tmp_path / "judge", symlinks=True)
    return tmp_path / "judge"


def test_a_judge_run_judges_with_its_best_policy_and_prompt(runs: Path) -> None:
    judge = open_judge_run(runs / "judge")
    assert judge.directory.is_dir()
    assert judge.style == "cot"
    question = find_questions(open_store(runs / "answers", read_only=True), "id = 1")[0]
    text = judge.prompt(question, "first\nchain", "second {first}").text
    assert text.startswith(f"{question.text}\nCandidate 1: first\nchain\nCandidate 2: second {{first}}\n")


def test_judge_runs_alternate_stages_on_whole_units(runs: Path) -> None:
    with closing(open_store(runs / "judge", read_only=True)) as store:
        assert [row["stages"] for row in log_rows(store)] == [["sft"], ["rft"], ["grpo"]]
        orders = "SELECT count(*) AS n FROM round_question JOIN question ON id = question WHERE round = 1 GROUP BY unit"
        assert {row["n"] for row in store.rows(orders)} == {2}


def test_pages_show_both_candidates_and_their_scores(runs: Path) -> None:
    with closing(open_store(runs / "judge", read_only=True)) as store:
        card = read_question(store, 1)
        assert card.candidates == (GOOD.format("red", "red"), GOOD.format("black", "black"))
        assert card.text == "easy 0: say red"
        html = str(macro("question_parts.html", "question_card")(card, [], []))
    assert 'Candidate 1 <span class="badge correct">better</span>' in html
    assert "Candidate 2</h4>" in html


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE question SET judge = 'exact'", "has no preference questions"),
        ("UPDATE round SET phase = 'sample' WHERE number = 2", r"is not finished \(round 2\)"),
        ("UPDATE run SET configuration = json_set(configuration, '$.run.rounds', 9)", "is not finished"),
        ("DELETE FROM run", "has not been started"),
    ],
)
def test_a_run_that_cannot_judge_is_refused(runs: Path, tmp_path: Path, change: str, said: str) -> None:
    run_dir = copied(runs, tmp_path)
    with closing(open_store(run_dir)) as store, store.transaction():
        store.connection.execute(change)
    with pytest.raises(InputError, match=said):
        open_judge_run(run_dir)


def test_altered_weights_and_lost_ones_are_refused(runs: Path, tmp_path: Path) -> None:
    run_dir = copied(runs, tmp_path)
    weights = open_judge_run(run_dir).directory / "model.safetensors"
    weights.write_text("others")
    with pytest.raises(InputError, match="they were altered, restore them"):
        open_judge_run(run_dir)
    weights.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        open_judge_run(run_dir)
    with pytest.raises(InputError, match="holds no run"):
        open_judge_run(tmp_path / "nowhere")


def test_a_judge_of_another_model_is_refused(runs: Path, tmp_path: Path) -> None:
    judge = open_judge_run(runs / "judge")
    require_same_model(judge, PolicyConfig(model=str(runs / "base")))
    other = tmp_path / "other"
    shutil.copytree(runs / "base", other)
    (other / "config.json").write_text(json.dumps({"dtype": "bfloat16", "use_cache": False}))  # may differ
    require_same_model(judge, PolicyConfig(model=str(other)))
    (other / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"differ in tokenizer\.json"):
        require_same_model(judge, PolicyConfig(model=str(other)))
    (other / "config.json").write_text(json.dumps({"text_config": {"hidden_size": 8}}))
    with pytest.raises(InputError, match="has another model"):
        require_same_model(judge, PolicyConfig(model=str(other)))


def test_a_judge_that_was_talked_to_otherwise_is_refused(runs: Path) -> None:
    judge = open_judge_run(runs / "judge")
    with pytest.raises(InputError, match=r"differ in policy\.system_prompt"):
        require_same_model(judge, PolicyConfig(model=str(runs / "base"), system_prompt="Be brief."))
    with pytest.raises(InputError, match=r"differ in policy\.chat_template_options"):
        require_same_model(
            judge, PolicyConfig(model=str(runs / "base"), chat_template_options={"enable_thinking": False})
        )


def test_both_orders_decide_and_nothing_is_asked_twice(runs: Path) -> None:
    judge = open_judge_run(runs / "judge")
    with session(runs, Script(skills=(1.0,), cut_off=0.0)) as ctx:
        asked = matches(ctx)
        assert shares_of_first(ctx, judge, asked, "judging") == [float(n % 2) for n in range(len(asked))]
        calls = ctx.store.value("SELECT count(*) FROM judge_call")
        assert calls == 2 * len(asked)
        ctx.sampler = None  # a second engine would be started for a request that is missing
        assert shares_of_first(ctx, judge, asked, "judging") == [float(n % 2) for n in range(len(asked))]
        assert ctx.sampler is None
        assert ctx.store.value("SELECT count(*) FROM judge_call") == calls


@pytest.mark.parametrize(
    ("verdict", "swapped", "share"),
    [("1", "2", 1.0), ("2", "1", 0.0), ("1", "1", 0.5), ("2", "2", 0.5), (None, None, 0.5), ("1", None, 0.75)],
)
def test_same_place_verdicts_cancel_and_unread_ones_count_half(
    verdict: str | None, swapped: str | None, share: float
) -> None:
    assert share_of_first(verdict, swapped) == share


def test_win_rates_are_means_over_all_other_distinct_texts(runs: Path) -> None:
    judge = open_judge_run(runs / "judge")
    with session(runs, Script(skills=(1.0,), cut_off=0.0)) as ctx:
        question = find_questions(ctx.store, "text LIKE 'easy%' ORDER BY id LIMIT 1")[0]
        good = GOOD.format(question.answers[0], question.answers[0])
        texts = [GOOD.format("x", "x"), good, GOOD.format("y", "y"), good]
        rates = win_rates(ctx, judge, {question.id: question}, {question.id: texts}, "comparing")[question.id]
    assert set(rates) == set(texts)
    assert rates[good] == 1.0
    assert sum(rates.values()) == pytest.approx(1.5)


def test_a_perfect_judge_finds_every_right_chain(runs: Path) -> None:
    judge = open_judge_run(runs / "judge")
    weights = (judge.directory / "model.safetensors").read_text()
    with session(runs, Script(skill_of=lambda content: 1.0 if content == weights else 0.5, cut_off=0.0)) as ctx:
        questions = find_questions(ctx.store, "split = 'test' ORDER BY id")
        evaluate_policy(ctx, 1, None, "test", questions, ["cot"])
        before = {figure.name: figure for figure in best_of(ctx, 1, 0, "test", questions, 4)}
        picked, own = best_of_by_judge(ctx, judge, 1, "test", questions, 4)
        again = best_of_by_judge(ctx, judge, 1, "test", questions, 4)
    assert picked.correct == before["pass@K"].correct > before["one sample"].correct
    assert own.correct == sum("easy" in question.text for question in questions)
    assert again == [picked, own]
