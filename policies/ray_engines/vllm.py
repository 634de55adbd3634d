"""The engine of an actor: vLLM, with an encoder of its own."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL.Image import Image

from policies.encoding import Encoder
from policies.prompt import NO_SETTINGS, ChatSettings
from policies.sampler import Sampler
from policies.vllm_engine import EngineSettings, VllmEngine


@dataclass(frozen=True)
class StartVllm:
    """Starts a vLLM engine in the process that calls it."""

    settings: EngineSettings
    seed: int
    chat_settings: ChatSettings = NO_SETTINGS

    def __call__(self, model: str, load_image: Callable[[str], Image]) -> Sampler:
        """An engine that serves the model in that directory. Raises PolicyError if it does not start."""
        encoder = Encoder(
            model,
            load_image,
            trust_remote_code=self.settings.trust_remote_code,
            chat_settings=self.chat_settings,
        )
        return VllmEngine(model, encoder, self.settings, self.seed)
