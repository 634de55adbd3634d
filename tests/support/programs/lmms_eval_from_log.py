"""Print the answers of lmms-eval's model `from_log` from a FOLDER of logs: task -> row number -> answer, as JSON."""

import json
import sys

from lmms_eval.models.simple.from_log import FromLog

print()
print(json.dumps({task: found["logs"] for task, found in FromLog(logs=sys.argv[1], have_limits=True).logs.items()}))
