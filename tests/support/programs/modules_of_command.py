"""Run a command in this process, then print the modules that it has loaded on standard error, as JSON."""

import contextlib
import json
import sys

import run_loop

with contextlib.suppress(SystemExit):  # `status` says by its exit code how a run stands
    run_loop.main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
