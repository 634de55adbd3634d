"""`check DIR --serve`: starts vLLM on a model, and proves that it computes with its weights."""

import tempfile
from pathlib import Path

from PIL import Image

from loop.errors import InputError
from loop.run_log import library_noise_to
from policies.encoding import Encoder, Prompt
from policies.learner.learner import LocalLearner
from policies.probe import ProbeFailed, probe_engine
from policies.verifier import ScoredChain
from policies.vllm_engine import EngineSettings, VllmEngine
from policies.weights import weights_sha256

QUESTIONS = ("How many sides has a triangle?", "Name a colour.", "Is seven larger than five?", "What do you see?")
ANSWERS = ("### Answer: three", "red", "yes, it is", "I see a red square. ### Answer: square")
CACHE_GIB = 0.5


def check_model(directory: Path, dtype: str, tolerance: float) -> tuple[list[str], str]:
    """Faults in serving a model, and what was found right, in words. Raises InputError for a run directory."""
    if not (directory / "config.json").is_file():
        raise InputError(f"{directory} is no model (it has no config.json); --serve wants one, as 'export' writes it")
    picture = Image.new("RGB", (64, 64), (200, 30, 30))
    encoder = Encoder(str(directory), lambda _: picture)
    images = ("picture",) if encoder.is_vision else ()
    items = [
        ScoredChain(Prompt(question, images), tuple(encoder.completion_ids(answer)))
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    longest = max(len(encoder.expanded_prompt_ids(item.prompt)) + len(item.completion) for item in items)
    settings = EngineSettings(
        dtype=dtype,
        max_model_len=min(2 * longest, encoder.context_length or 2 * longest),
        max_num_seqs=len(items),
        kv_cache_gib=CACHE_GIB,
        enforce_eager=True,
    )
    with tempfile.TemporaryDirectory() as folder, library_noise_to(Path(folder)):
        learner = LocalLearner(encoder)
        model = learner.load(directory)
        scores = [sum(each) for each in learner.token_logprobs(model, items)]
        del model
        learner.free_memory()
        engine = VllmEngine(str(directory), encoder, settings, 0)
        try:
            digest = engine.load_weights(directory)
            if digest != weights_sha256(directory):
                return [f"{directory}: its weights changed while they were loaded"], ""
            proof, _ = probe_engine(engine, scores, items, tolerance)
        except ProbeFailed as error:
            return [f"{directory}: {error} (--tolerance {tolerance})"], ""
        finally:
            engine.close()
    return [], f"served in {dtype} (sha256 {digest[:12]}, {proof.explained()})"
