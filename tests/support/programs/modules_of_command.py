"""Run a command in this process, then print the modules that it has loaded on standard error, as JSON."""

import json
import sys

import run_loop

code: object = 0
try:
    run_loop.main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)  # type: ignore[arg-type]
