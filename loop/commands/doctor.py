"""`doctor`: checks what this machine can run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from loop.commands.exits import FAILURE


@click.command()
@click.option("--config", default="easy_vqa", show_default=True, metavar="NAME_OR_FILE", help="What is to be run.")
@click.option("--run-dir", default="runs", show_default=True, type=click.Path(path_type=Path), help="Where.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the list of findings.")
def doctor(config: str, run_dir: Path, as_json: bool) -> None:
    """Check what this machine can run; exit code 1 if something that a run needs is missing."""
    from loop.commands.doctor_checks import examine, format_findings

    findings = examine(config, run_dir)
    click.echo(json.dumps({"findings": [asdict(each) for each in findings]}) if as_json else format_findings(findings))
    if any(finding.state == "missing" for finding in findings):
        sys.exit(FAILURE)
