# Two commands need no more than Python 3.11 and a package index: `make demo` shows it, `make test` proves it.
# PYTHON chooses another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Tests wait more than they compute: a few more of them at once than there are cores.
WORKERS ?= 4
PARALLEL = -n $(WORKERS) --dist loadscope
BIN := $(VENV)/bin
# pytest ends with 5 when it ran nothing; with ARGS, the test may be among the others.
NONE_CHOSEN := $(if $(ARGS),[ $$? -eq 5 ],exit $$?)
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help venv demo torture lint test test-long test-all test-exhaustive bench constraints clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/demo ## start a database, a broker, a relay and consumers, kill some of them, count what was lost
	@$(BIN)/outbox demo $(ARGS)

torture: $(VENV)/demo ## kill, freeze, cut and restart everything at random, then report; ARGS="--minutes 30"
	@$(BIN)/outbox torture $(ARGS)

test: lint ## check the code, run every test that takes less than a few seconds
	@echo "pytest: all but the long tests, $(WORKERS) at a time"
	@$(BIN)/pytest -m "not long and not exhaustive and not measured" $(PARALLEL) $(ARGS) || $(NONE_CHOSEN)
	@echo "pytest: what measures times, one at a time"
	@$(BIN)/pytest -m "measured and not long and not exhaustive" $(ARGS) || $(NONE_CHOSEN)

test-all: test test-long ## the same, and the long tests

test-long: $(VENV)/dev ## run the long tests alone
	@echo "pytest: the long tests, $(WORKERS) at a time"
	@$(BIN)/pytest -m "long and not exhaustive and not measured" $(PARALLEL) $(ARGS) || $(NONE_CHOSEN)
	@echo "pytest: the long ones that measure times, one at a time"
	@$(BIN)/pytest -m "long and measured and not exhaustive" $(ARGS) || $(NONE_CHOSEN)

test-exhaustive: $(VENV)/dev ## stop everything at every point, break every guarantee on purpose
	@$(BIN)/pytest -m "exhaustive and not measured" $(PARALLEL) $(ARGS) || $(NONE_CHOSEN)
	@$(BIN)/pytest -m "exhaustive and measured" $(ARGS) || $(NONE_CHOSEN)

lint: $(VENV)/dev ## ruff, mypy, import contracts
	@echo "ruff check" && $(BIN)/ruff check --quiet .
	@echo "ruff format" && $(BIN)/ruff format --quiet --check .
	@echo "mypy" && $(BIN)/mypy --no-error-summary
	@echo "import contracts" && $(BIN)/lint-imports --no-cache > $(VENV)/imports.log 2>&1 || { cat $(VENV)/imports.log; exit 1; }

bench: $(VENV)/dev ## measure; ARGS chooses what
	@$(BIN)/python benchmarks $(ARGS)

venv: $(VENV)/dev ## install everything for working on it into .venv

constraints: ## write down the versions that a fresh install gets today
	@rm -rf $(VENV)-fresh && $(MAKE) --no-print-directory VENV=$(VENV)-fresh UNPINNED=1 venv
	@$(VENV)-fresh/bin/python -m pip freeze --exclude-editable | LC_ALL=C sort -f > constraints.txt
	@rm -rf $(VENV)-fresh && wc -l constraints.txt

clean: ## remove what the other commands made
	@rm -rf $(VENV) .outbox-demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

ifdef UNPINNED
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq
endif

$(VENV)/demo $(VENV)/dev: $(VENV)/%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing outbox-relay[$*] into $(VENV)"
	@$(PIP) --editable ".[$*]"
	@touch $@

# Debian's Python comes without ensurepip: then whatever else makes an environment with pip in it.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: Python 3.11 or later is needed; name one: make PYTHON=python3.13" >&2; exit 1; }
	@echo "making $(VENV) with `$(PYTHON) --version`"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) > $(VENV).log 2>&1 || \
		$(PYTHON) -m virtualenv --clear --quiet $(VENV) > /dev/null 2>&1 || \
		{ rm -rf $(VENV) && uv venv --quiet --seed --python $(PYTHON) $(VENV) > /dev/null 2>&1; } || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) > /dev/null 2>&1 && \
			$(PYTHON) -m pip --python $(BIN)/python install --quiet pip > /dev/null 2>&1; } || \
		{ cat $(VENV).log; rm -rf $(VENV) $(VENV).log; \
			echo "make: no way to make a virtual environment; install python3-venv" >&2; exit 1; }
	@rm -f $(VENV).log
