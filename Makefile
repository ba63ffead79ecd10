# semcom-xapp: everything runs from a virtual environment that these targets create and keep up to date.
#
#   make demo                          the whole system on this machine, about a minute
#   make demo ARGS="--users 50 --json"
#   make test ARGS="tests/deploy -x"
#
# Variables
#   ARGS             passed on to the command of the target
#   PYTHON           interpreter that makes the virtual environment: 3.11 (ricxappframe installs on no later)
#   VENV             where the virtual environment lies
#   FLOWER_VENV      where that of the Flower engine lies, which cannot share the first
#   TORCH_INDEX_URL  a further package index for torch alone, e.g. https://download.pytorch.org/whl/cpu to get
#                    the CPU build (200 MB) instead of the CUDA build (several GB) that PyPI serves on Linux

PYTHON ?= python3.11
VENV ?= .venv
FLOWER_VENV ?= .venv-flower
ARGS ?=
TORCH_INDEX_URL ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One stamp per set of extras, so that `make demo` does not install the tools of `make test`.
LAB := $(VENV)/.installed-lab
DEV := $(VENV)/.installed-dev
FLOWER := $(FLOWER_VENV)/.installed-flower
FLOWER_REQUIREMENTS := codec_runtime/adapters/federation/flower/requirements.txt
INSTALL_INPUTS := pyproject.toml constraints.txt
TORCH_INDEX := $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL))

.DEFAULT_GOAL := help
.PHONY: demo test lint bench flower-venv clean distclean help
# A stamp is written last; a recipe that fails must not leave one behind.
.DELETE_ON_ERROR:

demo: $(LAB) ## run the whole system on loopback; leaves demo-out/report.html and summary.json
	@$(BIN)/semcom demo $(ARGS)

test: $(DEV) ## run the fast tests, a process a core (ARGS="-n 0 -m slow" for the slow ones, one after the other)
	@$(BIN)/pytest -n auto --dist loadfile $(ARGS)

lint: $(DEV) ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(LAB) ## latencies from a half-minute run of the whole system, then the codec's backend against eager torch
	@$(BIN)/semcom demo --duration 30 --no-live --json --out bench-out $(ARGS) | $(BIN)/python -c \
	  'import json, sys; s = json.load(sys.stdin); \
	  print(json.dumps({k: s[k] for k in ("indications", "loop_ms", "decode_ms")}))'
	@$(BIN)/semcom bench codec --json

flower-venv: $(FLOWER) ## the separate environment of the Flower engine; its slow tests skip without

clean: ## remove what runs and tools leave behind, keep the virtual environment
	rm -rf demo-out bench-out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find xapp codec_runtime tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## also remove the virtual environments
	rm -rf $(VENV) $(FLOWER_VENV)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Progress of the installation goes to stderr: stdout of `make demo ARGS=--json` is one JSON object.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "make: $(PYTHON) is not installed. Python 3.11 is needed: on Debian 12" >&2; \
	  echo "make: 'apt-get install python3.11-venv', elsewhere pyenv or your distribution's package;" >&2; \
	  echo "make: 'make PYTHON=/path/to/python3.11 ...' names it." >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "make: $(PYTHON) is not Python 3.11, the version that the dependencies install on." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "make: $(PYTHON) makes no virtual environments; on Debian 'apt-get install python3.11-venv'." >&2; \
	  exit 1; }
	@echo "make: creating $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV) >&2

# torch comes first and alone, pinned by constraints.txt, so that nothing depending on it picks another build.
define install
	@echo "make: installing semcom-xapp[$(1)] into $(VENV); the first time takes some minutes" >&2
	@$(PIP) install --quiet -c constraints.txt $(TORCH_INDEX) torch >&2
	@$(PIP) install --quiet -c constraints.txt -e ".[$(1)]" >&2
endef

$(LAB): $(INSTALL_INPUTS) | $(BIN)/python
	$(call install,lab)
	@touch $@

# The development extra contains the lab's.
$(DEV): $(INSTALL_INPUTS) | $(BIN)/python
	$(call install,dev)
	@touch $(LAB) $@

# Without its dependencies: they are those of the xApp, which conflict with flwr.
$(FLOWER): $(FLOWER_REQUIREMENTS) $(INSTALL_INPUTS) | $(BIN)/python
	@echo "make: installing flwr into $(FLOWER_VENV); the first time takes some minutes" >&2
	@$(PYTHON) -m venv $(FLOWER_VENV) >&2
	@$(FLOWER_VENV)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt \
	  $(TORCH_INDEX) --requirement $(FLOWER_REQUIREMENTS) >&2
	@$(FLOWER_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -e . >&2
	@touch $@
