"""Run a command in this process, then print the modules that it has loaded on standard error, as JSON."""

import json
import sys

import run_loop

try:
    run_loop.main(sys.argv[1:])
except SystemExit as end:
    if end.code in (1, 2):
        raise
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
