# `make help` lists the targets.

PYTHON ?= python3
PROFILE ?= bundled
IMAGENET_DIR ?=
ARGS ?=

BIN := .venv/bin
RUN = $(BIN)/python -m experiments.run
EXPERIMENT_ARGS = profile=$(PROFILE) $(if $(IMAGENET_DIR),'dataset.root="$(IMAGENET_DIR)"') $(ARGS)
EXPERIMENTS := table1 table2 table3 table4 table6 table7 table8 table9 table10 table11 \
	figure1 figure8 figure9 figure10

.DEFAULT_GOAL := help
.PHONY: help setup setup-ray $(EXPERIMENTS:%=reproduce-%) reproduce-table5 reproduce-evaluation \
	amplification breakdown distances overshoot claims report status verify wheel benchmark audit \
	test test-slow test-notebooks coverage docs lint format

help:  ## List the targets.
	@echo "usage: make TARGET [PROFILE=bundled|imagenette|paper] [IMAGENET_DIR=FOLDER]"
	@echo "                   [ARGS='key=value …']"
	@echo
	@awk -F ':.*## *' '/^[a-z0-9-]+:.*##/ { \
		line = sprintf("  %-21s", $$1); count = split($$2, words, " "); \
		for (at = 1; at <= count; at++) { \
			if (length(line) + length(words[at]) >= 80) { print line; line = sprintf("%23s", "") } \
			line = line " " words[at] } \
		print line }' $(MAKEFILE_LIST)
	@echo
	@echo "Times are those of PROFILE=bundled on two cores, the first time: what is there"
	@echo "is not computed again. It downloads nothing beyond what \`make setup\` does. The"
	@echo "others download the weights of the paper's five networks, 1.0 GB; imagenette"
	@echo "also its images, 1.6 GB; paper needs ImageNet's images in IMAGENET_DIR."

setup:  ## Make .venv and install the package with everything that the other targets need.
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pixelrobust needs Python 3.11 or newer; give one: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[bundled,clusters,dev,docs,huggingface,openvino,tracking]'
	@echo "Ready. Type \`make reproduce-table6\` to see real networks under pixel changes, \`make help\` for more."

setup-ray:  ## Make .venv-ray, for sweeps on a Ray cluster: Ray's launcher needs other versions of packages.
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-ray.txt --editable '.[bundled,openvino,ray]'

$(EXPERIMENTS:%=reproduce-%): reproduce-%: | $(BIN)/python
	@$(RUN) experiment=$* $(EXPERIMENT_ARGS)

reproduce-table1:  ## The networks, with their published accuracies; seconds.
reproduce-table2:  ## The attacks that are configured; seconds.
reproduce-table3:  ## Kinds of data augmentation; seconds.
reproduce-table4:  ## The parameters of the Pixel-index; seconds.
reproduce-table5: | $(BIN)/python  ## The Pixel-index of every cell of Tables 6 to 8, which are run too; 3 minutes.
	@$(RUN) -m experiment=table6,table7,table8 $(EXPERIMENT_ARGS)
reproduce-table6:  ## Experiment 1: wrong predictions over changed pixels; with Figure 8 and pixels to flip; a minute and a half.
reproduce-table7:  ## Experiment 2: wrong predictions over amplitudes; with Figure 9; a minute.
reproduce-table8:  ## Experiment 3: wrong predictions over areas; with Figure 10; a minute.
reproduce-table9:  ## Experiment 4: what pixel changes do to adversarial images; with a map of returns; 2 minutes.
reproduce-table10:  ## Networks retrained on images with a few pixels changed, beside controls; 3 minutes.
reproduce-table11:  ## Adversarial images shown to retrained networks; with the causes of the fall; 4 minutes after Table 10.
reproduce-figure1:  ## Pictures of images that flip; with the experiment breakdown; a minute.
reproduce-figure8:  ## The same as Table 6.
reproduce-figure9:  ## The same as Table 7.
reproduce-figure10:  ## The same as Table 8.

reproduce-evaluation: | $(BIN)/python  ## Tables 1 to 9, Figure 1, amplification and the claims; 5 minutes.
	@$(RUN) -m experiment=table1,table2,table3,table4,table6,table7,table8,table9,amplification,figure1 \
		$(EXPERIMENT_ARGS)

amplification: | $(BIN)/python  ## How changes grow from layer to layer, beside noise of the same size; seconds.
	@$(RUN) experiment=amplification $(EXPERIMENT_ARGS)

distances: | $(BIN)/python  ## Whether retraining moves images away from the classification boundary; 8 minutes after Table 10.
	@$(RUN) experiment=distances $(EXPERIMENT_ARGS)

overshoot: | $(BIN)/python  ## Beyond the paper: adversarial images so many times beyond their own smallest epsilon.
	@$(RUN) experiment=overshoot $(EXPERIMENT_ARGS)

breakdown: | $(BIN)/python  ## Beyond the paper: how many changed pixels it takes until networks do fail; a minute.
	@$(RUN) experiment=breakdown $(EXPERIMENT_ARGS)

claims: | $(BIN)/python  ## Which of the paper's claims hold, from the stored outcomes of PROFILE.
	@$(BIN)/python -m experiments.report results/$(PROFILE) claims --rebuild

report: | $(BIN)/python  ## All stored results of PROFILE as one page, results/PROFILE/report.html.
	@$(BIN)/python -m experiments.report results/$(PROFILE) --html --images $(EXPERIMENT_ARGS)

status: | $(BIN)/python  ## What runs have done, and what is missing.
	@$(BIN)/python -m experiments.status

verify: | $(BIN)/python  ## Compute a hundredth of the stored outcomes of PROFILE again, and compare.
	@$(BIN)/python -m experiments.verify results/$(PROFILE) $(EXPERIMENT_ARGS)

wheel: | $(BIN)/python  ## Build what pip installs, into dist/: see the README, without the repository.
	@$(BIN)/python -m build --no-isolation

benchmark: | $(BIN)/python  ## Images a second beside scripts that one would write by hand.
	@$(BIN)/python -m scripts.benchmark $(ARGS)

audit:  ## Look up every pinned package in the index's database of advisories; needs the network.
	@$(PYTHON) -m venv .audit
	@.audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@.audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

test: | $(BIN)/python  ## Run the tests, but for the slow ones; nine to ten minutes on two cores.
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --max-worker-restart=0 -m 'not slow'

test-slow: | $(BIN)/python  ## Run the slow tests.
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --max-worker-restart=0 -m slow

test-notebooks: | $(BIN)/python  ## Run all notebooks from top to bottom; a minute.
	@PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest --nbmake --nbmake-timeout=600 --numprocesses=2 notebooks

coverage: | $(BIN)/python  ## Run the tests, and list the lines of pixelrobust/ that none of them runs; at least 90 % must be.
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --max-worker-restart=0 --cov

docs: | $(BIN)/python  ## Build the site of README, docs, results and API reference, into site/.
	@$(BIN)/python -m scripts.site

lint: | $(BIN)/python  ## Check format, style, types and directions of imports.
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: | $(BIN)/python  ## Format the code.
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

$(BIN)/python:
	@echo "There is no .venv yet; type \`make setup\` first."; exit 1
