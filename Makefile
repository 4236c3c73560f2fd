# Two commands matter on a fresh machine: `make demo` and `make test`. Both build what they need.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install environments demo test test-fast lint bench clean system-needs

# Two OpenMP pools that spin while they wait take a small machine away from each other.
export OMP_WAIT_POLICY := PASSIVE

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider
# A process a core, each with one thread; the tests of a file share what they trained. In the order of their names, for
# by the number of their tests the longest files would come last.
PARALLEL_PYTEST := OMP_NUM_THREADS=1 $(PYTEST) --numprocesses auto --dist loadfile --no-loadscope-reorder
ARGS ?=
# ARGS may choose tests of one kind only; pytest says 5 where it found none.
OR_NONE_CHOSEN = $(if $(ARGS),|| [ $$? -eq 5 ])

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Build the product's virtual environment in .venv
	@scripts/setup.sh product

environments: ## Build both virtual environments, side by side
	@scripts/setup.sh product label-studio

demo: environments ## Show everything on one machine (ARGS="--check" runs it unattended)
	@$(BIN)/inspection demo $(ARGS)

test: system-needs environments ## Run all tests, Label Studio and browser included (ARGS go to pytest)
	@$(PARALLEL_PYTEST) -m "not e2e" $(ARGS) $(OR_NONE_CHOSEN)
	@$(PYTEST) -m e2e $(ARGS) $(OR_NONE_CHOSEN)

test-fast: install ## Run the tests of the inner loop (no Label Studio, no PostgreSQL, nothing slow)
	@$(PARALLEL_PYTEST) -m "not e2e and not slow" $(ARGS)

lint: install ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: install ## Measure what the README claims
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove virtual environments and caches; keep the demo's data
	@rm -rf .venv .venv-label-studio .inspection/setup build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find backend db inspection_models tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

system-needs:
	@scripts/system_needs.sh --install
