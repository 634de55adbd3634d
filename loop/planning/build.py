"""Makes the plan of a run from its store, or from its source of questions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from loop.config.schema import Config
from loop.planning.fit import require_fit
from loop.planning.lengths import Questions, longest_of_context, longest_of_questions
from loop.planning.machine import Machine
from loop.planning.model_shape import read_shape
from loop.planning.plan import Plan, engines_that_fit, make_plan
from loop.planning.questions import questions_of_store
from policies import PolicyError
from policies.encoding import Encoder
from policies.packaged_model import PREFIX
from store import Store


def plan_maker(
    config: Config, encoder: Encoder, questions: Questions | None, machine: Machine
) -> Callable[[Config], Plan] | None:
    """A function that plans variants of a configuration; the model is read once.

    None if the longest sequence is unknown. Raises PolicyError if the model's configuration cannot be read.
    """
    shape = read_shape(config.policy.model, trust_remote_code=config.policy.trust_remote_code)
    if questions is not None:
        longest = longest_of_questions(config, encoder, questions, shape.patch_values)
    elif (bound := longest_of_context(config, encoder)) is not None:
        longest = bound
    else:
        return None
    card = min(machine.cards, default=None)
    return lambda variant: make_plan(variant, shape, longest, card)


def plan_run(
    store: Store, config: Config, make_encoder: Callable[[], Encoder], machine: Machine, *, agreed: bool = False
) -> Plan | None:
    """The plan of a run whose questions are stored; raises InputError if it does not fit, unless the user `agreed`.

    None if the model cannot be read: loading it will report the fault.
    """
    try:
        make = plan_maker(config, make_encoder(), questions_of_store(store), machine)
    except PolicyError:
        return None
    if make is None:
        return None
    return make(config) if agreed else require_fit(config, make, machine)


def engines_with_room(store: Store, config: Config, encoder: Encoder, machine: Machine, most: int) -> int:
    """Number of engines that this machine's memory can hold, up to `most`; `most` if the memory cannot be planned."""
    try:
        make = plan_maker(config, encoder, questions_of_store(store), machine)
    except PolicyError:
        return most
    return most if make is None else engines_that_fit(make(config), machine.host, most)


def plan_maker_by_model(
    config: Config, questions: Questions | None, machine: Machine
) -> Callable[[Config], Plan] | None:
    """`plan_maker` without a run; also raises PolicyError if the model's configuration would have to be downloaded."""
    from transformers.utils import logging

    _require_at_hand(config.policy.model)
    logging.set_verbosity_error()  # its remarks on configurations are not for the reader of a plan
    policy = config.policy
    encoder = Encoder(policy.model, _no_image, trust_remote_code=policy.trust_remote_code, chat_settings=policy.chat)
    return plan_maker(config, encoder, questions, machine)


def _no_image(digest: str) -> Any:
    """Replaces the loading of images: the plan needs only their sizes."""
    raise AssertionError(f"the plan of the memory asked for image {digest}")


def _require_at_hand(model: str) -> None:
    if model.startswith(PREFIX) or Path(model).is_dir():
        return
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(model, "config.json")
    except ValueError:
        found = None
    if not isinstance(found, str):
        raise PolicyError(f"policy.model = {model!r} is not on this machine; `hf download {model}` gets it")
