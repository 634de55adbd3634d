"""The cold start's cost is estimated before anything is asked, and a high one must be agreed to."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from loop.commands.dry_run import describe_plan
from loop.config.load import parse_config
from loop.config.schema import Config
from loop.errors import InputError
from loop.teaching.cost import confirm_cold_start, estimate_from_source
from loop.teaching.setup import teacher_settings
from loop.teaching.tasks import rationale_tasks
from policies.teacher.request import request_hash
from store import Store, open_store
from store.new_questions import NewQuestion, add_questions
from store.questions import find_questions
from store.rounds import Policy, add_policy, start_round
from store.teacher.calls import TeacherCall, add_calls
from tests.support.command_line import BASE_MODEL, run_command

ENDPOINT = "http://127.0.0.1:9/v1"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Ten questions about images of 1024x1024."""
    Image.new("RGB", (1024, 1024)).save(tmp_path / "large.png")
    row = {"answer": "red", "images": ["large.png"], "split": "train"}
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({**row, "question": f"what color is item {n}?"}) + "\n" for n in range(10)))
    return path


def config(path: Path, **teacher: object) -> Config:
    tables = {
        "policy": {"model": "m"},
        "questions": {"source": "jsonl", "path": str(path)},
        "teacher": {"base_url": ENDPOINT, **teacher},
        "cold_start": {"rationales": 1000},
    }
    return parse_config(tables, "here")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    buffer = io.BytesIO()
    Image.new("RGB", (1024, 1024)).save(buffer, format="PNG")
    opened = open_store(tmp_path, create=True)
    rows = (NewQuestion(f"q{n}?", ["red"], [buffer.getvalue()], "train", "t", "exact") for n in range(40))
    add_questions(opened, rows)
    return opened


def test_the_estimate_counts_text_images_and_answers(questions: Path) -> None:
    estimate, basis = estimate_from_source(config(questions))
    assert basis == "measured on 10 questions"
    assert estimate.requests == 1000
    assert 765_000 < estimate.prompt_tokens < 1_000_000
    assert estimate.completion_tokens == 130_000
    assert estimate.usd == pytest.approx((estimate.prompt_tokens * 2.5 + 130_000 * 10) / 1e6)
    assert estimate.max_usd == pytest.approx((estimate.prompt_tokens * 2.5 + 300_000 * 10) / 1e6)
    halved, _ = estimate_from_source(config(questions, mode="batch"))
    assert estimate.usd is not None
    assert halved.usd == pytest.approx(estimate.usd / 2)


def test_the_plan_prints_the_cost_without_questions_or_price(questions: Path, tmp_path: Path) -> None:
    def cost(settings: Config) -> str:
        return next(line for line in describe_plan(settings, tmp_path) if "cost" in line)

    assert "about $3.4" in cost(config(questions))
    assert "assuming one image of 1024x1024 each" in cost(config(tmp_path / "nosuch.jsonl"))
    assert "no price known" in cost(config(questions, model="my-model"))


def test_a_cost_above_the_threshold_needs_a_yes(questions: Path, store: Store) -> None:
    with pytest.raises(InputError, match=r"40 requests.*\$0\.1.*add --yes"):
        confirm_cold_start(config(questions, confirm_usd=0.1), store, agreed=False)
    confirm_cold_start(config(questions, confirm_usd=0.1), store, agreed=True)
    confirm_cold_start(config(questions, confirm_usd=0.2), store, agreed=False)
    confirm_cold_start(config(questions, confirm_usd=0.1, budget_usd=0.05), store, agreed=False)
    confirm_cold_start(config(questions, confirm_usd=0.1, enabled=False), store, agreed=False)


def test_an_unknown_cost_needs_a_yes_beyond_this_machine(questions: Path, store: Store) -> None:
    remote = config(questions, model="my-model", base_url="https://models.example/v1")
    with pytest.raises(InputError, match=r"no price known.*--yes.*teacher\.prices"):
        confirm_cold_start(remote, store, agreed=False)
    confirm_cold_start(remote, store, agreed=True)
    confirm_cold_start(config(questions, model="my-model"), store, agreed=False)


def test_a_dated_model_has_the_price_of_its_name_or_its_own(questions: Path) -> None:
    prices = {name: config(questions, model=name).teacher.price for name in ("gpt-4o-2024-08-06", "gpt-4o-2024-05-13")}
    assert [price and price.input for price in prices.values()] == [2.5, 5.0]


def test_changed_settings_ask_again_and_are_confirmed_again(questions: Path, store: Store) -> None:
    with store.transaction():
        add_policy(store, Policy(0, None, "base", "sha", "path", {}))
    start_round(store, 0, "distil", 0, range(1, 41))
    before = config(questions, confirm_usd=0.1)
    settings = teacher_settings(before.teacher, ENDPOINT)
    with store.transaction():
        for task in rationale_tasks(before.teacher, find_questions(store, "1")):
            key = request_hash(settings, task.prompt, task.question.images)
            add_calls(store, [TeacherCall(key, "cold_start", 0, task.question.id, "gpt-4o", None, "answered")])
    confirm_cold_start(before, store, agreed=False)
    with pytest.raises(InputError, match="40 requests"):
        confirm_cold_start(config(questions, confirm_usd=0.1, temperature=0.2), store, agreed=False)


def test_budgets_without_price_and_keys_in_urls_are_refused(questions: Path) -> None:
    for keys, message in (
        ({"model": "my-model", "budget_usd": 1.0}, r"teacher\.prices"),
        ({"base_url": "http://me:secret@127.0.0.1/v1"}, "must not hold a key"),
        ({"api_key_env": "sk-secret-key"}, "api_key_env"),
        ({"notes": {"exact": ["shout"]}}, "'shout' is unknown"),
        ({"notes": {"nosuch": []}}, "'nosuch' is unknown"),
        ({"base_url": "embedded", "mode": "batch"}, "Batch API"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            config(questions, **keys)
        assert "secret" not in str(caught.value)


def test_run_stops_before_it_spends_and_names_the_flag(questions: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[policy]\nmodel = "{BASE_MODEL}"\n[questions]\nsource = "jsonl"\npath = "{questions}"\n'
        f'[evaluation]\nsplit = "train"\n[teacher]\nbase_url = "{ENDPOINT}"\nconfirm_usd = 0.01\n'
    )
    done = run_command("run", "--config", recipe, "--run-dir", tmp_path / "run", check=2)
    assert "add --yes to agree" in done.stderr
    assert "Traceback" not in done.stderr
