# The commands of a checkout. Each one does the set-up that it needs, so `make demo` and `make test`
# work in a fresh clone on a machine that has Python 3.11 and make.
.DEFAULT_GOAL := help
.PHONY: help demo test lint format clean setup

VENV := .venv
BIN := $(VENV)/bin
# The interpreter that .venv is made with; `make demo PYTHON=/path/to/python` names another one.
PYTHON ?=
# Worker processes of pytest; WORKERS=0 runs the tests in one process.
WORKERS ?= 2
# What the installed packages follow from.
KEY = cksum pyproject.toml constraints.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NO_ALBUMENTATIONS_UPDATE := 1

help: ## say what each command does (what plain `make` runs)
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1:\2/p' Makefile | awk -F: '{printf "%-15s %s\n", $$1, $$2}'

demo: setup ## train, export, predict and report on the sample data, into runs/demo
	@$(BIN)/imaging-ft demo --out runs/demo

# One thread each: the tests' networks are tiny, and two threads that wait for each other on a busy machine
# were ten times slower.
test: lint ## lint, then run every test (in two processes; WORKERS=0: in one)
	@echo "pytest"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

lint: setup ## check formatting, lint, types and the layers
	@echo "ruff format (make format mends it)"
	@$(BIN)/ruff format --quiet --check --output-format concise .
	@echo "ruff check"
	@$(BIN)/ruff check --quiet .
	@echo "pyright"
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@echo "import-linter"
	@$(BIN)/lint-imports --no-logo

format: setup ## rewrite the formatting, and mend what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove .venv, caches and built files; runs/ stays
	@rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp of a finished install is taken away first and written last. An install that was cut off leaves
# .installing behind, and begins anew; so does an environment of a checkout that has moved.
setup:
	@if [ -x $(BIN)/python ] && [ "$$(cat $(VENV)/.installed 2>/dev/null)" = "$$($(KEY))" ]; then exit 0; fi; \
	rm -f $(VENV)/.installed; \
	if [ -f $(VENV)/.installing ] || ! $(BIN)/python -c "" 2>/dev/null \
	    || ! grep -qsF "$$(pwd -P)/$(VENV)/" $(BIN)/pip; then \
	    for python in $(if $(PYTHON),"$(PYTHON)",python3.11 python3 python3.12 python3.13); do \
	        "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo "No Python 3.11 or newer was found$(if $(PYTHON), at PYTHON=$(PYTHON))." >&2; \
	        echo "Debian 12, Ubuntu: apt-get install python3.11 python3.11-venv" >&2; \
	        echo "If it is not on the PATH: make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=/path/to/python3.11" >&2; \
	        exit 1; \
	    fi; \
	    if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	        version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	        echo "$$python lacks the modules venv and ensurepip, which make a virtual environment." >&2; \
	        echo "Debian, Ubuntu: apt-get install python3-venv (or python$$version-venv)" >&2; \
	        exit 1; \
	    fi; \
	    "$$python" -m venv --clear $(VENV) || exit 1; \
	fi; \
	echo "Installing imaging-ft and its libraries into $(VENV): several GB, some minutes ..."; \
	touch $(VENV)/.installing; \
	if ! $(BIN)/python -m pip install -qq -c constraints.txt -e '.[train,dev,track,sign,serve,scale]'; then \
	    echo "The install failed; the lines above say why. The same command tries again." >&2; \
	    exit 1; \
	fi; \
	$(KEY) > $(VENV)/.installed; \
	rm $(VENV)/.installing
