# Two commands do everything on a fresh machine: `make testnet` and `make test`.
PYTHON ?= python3.11
ifeq ($(shell command -v $(PYTHON) 2>/dev/null),)
PYTHON := python3
endif
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help testnet test test-long lint bench clean

help:
	@echo "make testnet    run a whole network on this machine, with a live screen"
	@echo "                make testnet ARGS=\"--epochs 3 --json report.json\" ends by itself and judges it"
	@echo "make test       fast tests (under 10 minutes on 2 cores)"
	@echo "make test-long  all tests, with a whole testnet, kill tests and docker-compose"
	@echo "make lint       ruff, mypy --strict, direction of imports"
	@echo "make bench      measure: make bench ARGS=\"testnet --json\""

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e ".[dev]"
	@touch $(STAMP)

testnet: $(STAMP)
	@$(BIN)/ponas testnet $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

test-long: $(STAMP)
	$(BIN)/python -m pytest -m "long or not long" --timeout 3600 $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
