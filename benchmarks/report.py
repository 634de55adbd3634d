"""Seconds to write a report, and until it shows its questions in Chromium, by how many questions the run has.

From asking for the page to the first rows of its list, each time in the same browser with an empty page before.
One JSON object a row: questions, samples, seconds to write, megabytes of the file, the middle and the longest of the
times to open it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.browser import chromium, open_page
from tests.support.looked_at_run import SAMPLES, make_run

PROJECT = Path(__file__).resolve().parent.parent
ROWS = "table.questions tbody tr"
DIFFERENT_CHAINS = 10_000
"""So many that those of a report, packed, are not copies of each other."""


def main() -> None:
    """Make runs of these sizes, write their reports, open them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chain-words", type=int, default=20)
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium() as chrome:
        for questions in options.questions:
            run = make_run(
                Path(folder) / str(questions), questions, options.chain_words, options.rounds, DIFFERENT_CHAINS
            )
            report = run / "report.html"
            began = time.monotonic()
            subprocess.run([sys.executable, PROJECT / "run_loop.py", "report", run, "-o", report], check=True)
            wrote = time.monotonic() - began
            took = []
            for _ in range(options.times):
                began = time.monotonic()
                open_page(chrome, report.as_uri(), ROWS)
                took.append(time.monotonic() - began)
            row = {"questions": questions, "samples": questions // 2 * SAMPLES * options.rounds}
            row |= {"write_s": round(wrote, 1), "megabytes": round(report.stat().st_size / 1e6, 1)}
            print(json.dumps({**row, "median_s": round(statistics.median(took), 2), "longest_s": round(max(took), 2)}))


if __name__ == "__main__":
    main()
