"""The prompt styles in which accuracy is reported. Each costs time in every round, so untrained ones are optional."""

from loop.config.prompt_styles import STYLES
from store import Store
from store.sessions import stored_configuration


def reported_styles(store: Store) -> list[str]:
    """The trained style, those that the gate guards, and those of `evaluation.styles`.

    A run that began before that key existed reports both styles.
    """
    configuration = stored_configuration(store)
    if configuration is None or "styles" not in configuration["evaluation"]:
        return list(STYLES)
    guarded = [] if configuration["gate"]["rule"] == "always" else configuration["gate"]["guard"]
    wanted = {configuration["sampling"]["style"], *guarded, *configuration["evaluation"]["styles"]}
    return [style for style in STYLES if style in wanted]
