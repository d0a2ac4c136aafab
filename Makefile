# Everything a developer types. `make` alone explains itself.
#
# Recipes end in one program each, which make runs without a shell between: a terminal's Ctrl-C reaches it directly, and
# make passes a SIGTERM of its own on to it and waits until it has stopped.

PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup run test check fix guards chaos bench clean
MAKEFLAGS += --no-print-directory

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: ## Build .venv from uv.lock (the others do it by themselves)
	@scripts/setup

run: setup ## Start everything on this machine, with people who come by; Ctrl-C stops it
	@exec $(PYTHON) -m services run

test: setup ## Run every test, on real PostgreSQL and RabbitMQ
	@exec $(PYTHON) -m pytest

check: setup ## Check format, lint, types and import rules
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports

fix: setup ## Format the code and mend what the linter can
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .

guards: setup ## Take out each guard and show which test catches it
	@exec $(PYTHON) -m tests.guards

chaos: setup ## Kill, stop and wipe things under load, and judge what came of it; PART=telegram for that alone
	@exec $(PYTHON) -m tests.chaos $(PART)

bench: setup ## Measure against the ceilings of this machine
	@exec $(PYTHON) -m benchmarks

clean: ## Remove the environment and the caches; the state in .gatepost/ stays
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
