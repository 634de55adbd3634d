"""A run goes on with what it began with, also where the shipped files say otherwise today."""

import json
from pathlib import Path
from typing import Any

import pytest

from loop.config.load import keys_set_by_user, load_config
from loop.config.run_identity import as_begun, record_run, require_same
from loop.errors import InputError
from store import Store, open_store
from store.rounds import Policy, add_policy, start_round
from tests.support.command_line import run_command

CONFIG = "easy_vqa"


@pytest.fixture
def run_of_yesterday(tmp_path: Path) -> Store:
    """A run of the embedded default that began when its gate had another rule, before some keys were known."""
    store = open_store(tmp_path, create=True)
    record_run(store, load_config(CONFIG, ["gate.rule=not_worse", "gate.limit=1000", "sampling.questions=1000"]))
    with store.transaction():
        add_policy(store, Policy(0, None, "base", "sha", "path", {}))
        stored = json.loads(store.value("SELECT configuration FROM run"))
        del stored["gate"]["shrink"], stored["pairs"]["balance"]
        store.connection.execute("UPDATE run SET configuration = ?", (json.dumps(stored),))
    start_round(store, 0, "distil", 0, [])
    return store


def test_a_run_keeps_its_values_if_a_shipped_file_changed(run_of_yesterday: Store) -> None:
    config, kept = as_begun(run_of_yesterday, load_config(CONFIG, []), keys_set_by_user(CONFIG, []))
    assert kept == ["gate.limit", "gate.rule", "gate.shrink", "pairs.balance", "sampling.questions"]
    assert (config.gate.rule, config.gate.limit, config.gate.shrink) == ("not_worse", 1000, [])
    assert require_same(run_of_yesterday, config) == []


def test_a_users_value_that_differs_from_the_runs_is_refused(run_of_yesterday: Store) -> None:
    overrides = ["gate.rule=improve"]
    own = keys_set_by_user(CONFIG, overrides)
    config, kept = as_begun(run_of_yesterday, load_config(CONFIG, overrides), own)
    assert "gate.rule" not in kept
    with pytest.raises(InputError, match=r"gate.rule \('not_worse' in the run, 'improve' now\)"):
        require_same(run_of_yesterday, config)


def test_a_file_of_the_users_own_is_what_the_user_sets(run_of_yesterday: Store, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('recipe = "ratchet"\n[policy]\nmodel = "m"\n[gate]\nrule = "improve"\n')
    assert keys_set_by_user(str(file), ["update.losses={sft = 1.0}"]) == {"policy.model", "gate.rule", "update.losses"}


@pytest.mark.parametrize(("config", "recipe"), [("smollm2", None), (CONFIG, "irpo")])
def test_another_configuration_or_recipe_is_another_run(run_of_yesterday: Store, config: str, recipe: str) -> None:
    other = load_config(config, [], recipe)
    assert as_begun(run_of_yesterday, other, keys_set_by_user(config, [], recipe)) == (other, [])
    with pytest.raises(InputError, match="was made with another configuration"):
        require_same(run_of_yesterday, other)


def planned(*arguments: object) -> dict[str, Any]:
    """The configuration that `run` would go on with."""
    tables: dict[str, Any] = json.loads(run_command("run", *arguments, "--dry-run", "--json").stdout)
    return tables


def test_without_a_file_a_run_goes_on_with_its_own_configuration(run_of_yesterday: Store, tmp_path: Path) -> None:
    run_of_yesterday.close()
    plan = planned("--run-dir", tmp_path)
    assert plan["recipe"] == "ratchet"
    assert (plan["gate"]["rule"], plan["gate"]["limit"]) == ("not_worse", 1000)
    assert plan["gate"]["shrink"] == [], "a key that the run does not know yet has its default"


def test_without_a_file_schedule_and_machine_keys_may_be_set(run_of_yesterday: Store, tmp_path: Path) -> None:
    run_of_yesterday.close()
    plan = planned("--run-dir", tmp_path, "--rounds", 9, "--set", "engine.max_num_seqs=7")
    assert (plan["run"]["rounds"], plan["engine"]["max_num_seqs"]) == (9, 7)
    assert plan["sampling"]["questions"] == 1000


def test_without_a_file_other_keys_are_refused_by_name(run_of_yesterday: Store, tmp_path: Path) -> None:
    run_of_yesterday.close()
    for override, said in (
        ("sampling.questions=5", "sampling.questions (1000 in the run, 5 now)"),
        ("questions.train_limit=5", "questions.train_limit ("),
        ("sampling.nonsense=5", "--set sampling.nonsense: unknown key"),
    ):
        done = run_command("run", "--run-dir", tmp_path, "--dry-run", "--set", override, check=2)
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run-dir", "{folder}"), "holds no run to continue; to start a run, write --config NAME_OR_FILE --run-dir"),
        (("--run-dir", "{folder}/none"), "{folder}/none holds no run to continue; to start a run, write --config"),
        ((), "to start a run, write --config NAME_OR_FILE --run-dir DIR; to continue one, write --run-dir DIR"),
        (("--run-dir", "{folder}", "--recipe", "irpo"), "--recipe needs --config"),
    ],
)
def test_without_a_run_to_continue_the_message_says_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run_command("run", *(each.format(folder=tmp_path) for each in arguments), check=2)
    assert said.format(folder=tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_store_without_a_configuration_is_no_run_to_continue(tmp_path: Path) -> None:
    open_store(tmp_path, create=True).close()
    assert "holds no run to continue" in run_command("run", "--run-dir", tmp_path, check=2).stderr


def test_chat_settings_belong_to_a_run_and_old_runs_keep_theirs(run_of_yesterday: Store) -> None:
    stored = json.loads(run_of_yesterday.value("SELECT configuration FROM run"))
    del stored["policy"]["system_prompt"], stored["policy"]["chat_template_options"]
    with run_of_yesterday.transaction():
        run_of_yesterday.connection.execute("UPDATE run SET configuration = ?", (json.dumps(stored),))
    same = as_begun(run_of_yesterday, load_config(CONFIG, []), keys_set_by_user(CONFIG, []))[0]
    assert (same.policy.system_prompt, same.policy.chat_template_options) == (None, {})
    assert require_same(run_of_yesterday, same) == []
    for override in ("policy.system_prompt='Be brief.'", "policy.chat_template_options.enable_thinking=false"):
        config, _ = as_begun(run_of_yesterday, load_config(CONFIG, [override]), keys_set_by_user(CONFIG, [override]))
        with pytest.raises(InputError, match=override.partition("=")[0]):
            require_same(run_of_yesterday, config)
