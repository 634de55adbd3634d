"""Makes a finished scripted run in FOLDER/run that reported to TensorBoard."""

import sys
from pathlib import Path

from tests.support.scripted_run import run_scripted, scripted_config


def main(folder: Path) -> None:
    """Two rounds through every phase."""
    run_scripted(folder / "run", scripted_config(folder, tracking={"report_to": ["tensorboard"]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
