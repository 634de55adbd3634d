"""`completion`: the script with which a shell completes the command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from loop.errors import InputError

PROGRAM, VARIABLE = "ratchet", "_RATCHET_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which a SHELL completes commands and options of `ratchet`.

    bash: ratchet completion bash > ~/.local/share/bash-completion/completions/ratchet. zsh: into a file _ratchet in a
    folder of $fpath. fish: into ~/.config/fish/completions/ratchet.fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    try:
        click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
    except RuntimeError as error:  # an older bash, or none
        raise InputError(f"completion {shell}: {error}") from error
