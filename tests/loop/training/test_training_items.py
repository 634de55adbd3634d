"""The items that an update trains on."""

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from loop.config.load import parse_config
from loop.training.training_items import cold_start_items
from policies.encoding import Prompt
from store import open_store
from store.new_questions import NewQuestion, add_questions
from store.rounds import Policy, add_policy, get_round, start_round
from store.samples import NewSample, NewVerdict, add_samples, add_verdicts
from tests.support.scripted_run import scripted_encoder


def test_a_teachers_chain_too_long_for_the_model_is_left_out(tmp_path: Path) -> None:
    tables = {"policy": {"model": "m"}, "questions": {"source": "easy_vqa"}}
    config = parse_config({**tables, "cold_start": {"direct_items": 0, "format_items": 0}}, "test")
    encoder, said = scripted_encoder(), list[str]()
    most = encoder.context_length
    assert most is not None
    with closing(open_store(tmp_path, create=True)) as store:
        add_questions(store, [NewQuestion(f"q{n}?", ["red"], [], "train", "t", "exact") for n in range(3)])
        with store.transaction():
            add_policy(store, Policy(0, None, "base", "sha", "path", {}))
        start_round(store, 0, "update", 0, [1, 2, 3])
        prompt = len(encoder.expanded_prompt_ids(Prompt("q0?")))
        with store.transaction():
            for question, tokens in ((1, 20), (2, most - prompt), (3, most - prompt + 1)):
                new = NewSample(0, question, "teacher", None, "cot", 0, "text", [5] * tokens, "stop")
                add_samples(store, [new])
                add_verdicts(store, [NewVerdict(question, "exact", "1", "red", 1.0, "correct")])
        context: Any = SimpleNamespace(
            store=store,
            config=config,
            encoder=encoder,
            reporter=SimpleNamespace(say=said.append),
            prompt=lambda question, style: Prompt(question.text),
        )
        items = cold_start_items(context, get_round(store, 0))
    assert sorted(len(item.completion) for item in items) == [20, most - prompt]
    assert said == [
        f"  1 of 3 chains of the teacher are left out: with their prompts they are longer than the {most} tokens that"
        " the model takes"
    ]
