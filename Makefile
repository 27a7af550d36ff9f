# `make help` lists the targets.

PYTHON ?= python3
PROFILE ?= bundled
IMAGENET_DIR ?=
ARGS ?=

BIN := .venv/bin
EXPERIMENT_ARGS = profile=$(PROFILE) $(if $(IMAGENET_DIR),'dataset.root="$(IMAGENET_DIR)"') $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce-table6 reproduce-table7 reproduce-table8 reproduce-table9 breakdown test lint format

help:  ## List the targets.
	@echo "usage: make TARGET [PROFILE=bundled|imagenette|paper] [IMAGENET_DIR=FOLDER] [ARGS='key=value …']"
	@echo
	@awk -F ':.*##' '/^[a-z0-9-]+:.*##/ { printf "  %-20s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Make .venv and install the package with everything that the other targets need.
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pixelrobust needs Python 3.11 or newer; give one: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[bundled,dev]'
	@echo "Ready. Type \`make reproduce-table6\` to see real networks under pixel changes, \`make help\` for more."

reproduce-table6: | $(BIN)/python  ## Experiment 1 (Table 6, Figure 8): wrong predictions over changed pixels.
	@$(BIN)/python -m experiments.run experiment=table6 $(EXPERIMENT_ARGS)

reproduce-table7: | $(BIN)/python  ## Experiment 2 (Table 7, Figure 9): wrong predictions over amplitudes.
	@$(BIN)/python -m experiments.run experiment=table7 $(EXPERIMENT_ARGS)

reproduce-table8: | $(BIN)/python  ## Experiment 3 (Table 8, Figure 10): wrong predictions over areas.
	@$(BIN)/python -m experiments.run experiment=table8 $(EXPERIMENT_ARGS)

reproduce-table9: | $(BIN)/python  ## Experiment 4 (Table 9): what pixel changes do to adversarial images.
	@$(BIN)/python -m experiments.run experiment=table9 $(EXPERIMENT_ARGS)

breakdown: | $(BIN)/python  ## Beyond the paper: how many changed pixels it takes until networks do fail.
	@$(BIN)/python -m experiments.run experiment=breakdown $(EXPERIMENT_ARGS)

test: | $(BIN)/python  ## Run the tests.
	@$(BIN)/python -m pytest

lint: | $(BIN)/python  ## Check format, style and types.
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy

format: | $(BIN)/python  ## Format the code.
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

$(BIN)/python:
	@echo "There is no .venv yet; type \`make setup\` first."; exit 1
