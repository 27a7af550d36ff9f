# `make help` lists the targets.

PYTHON ?= python3
PROFILE ?= bundled
IMAGENET_DIR ?=
ARGS ?=
PIP_ARGS ?=

BIN := .venv/bin
# Something that `make setup-dev` alone installs.
DEV := $(BIN)/pre-commit
RUN = $(BIN)/python -m experiments.run
EXPERIMENT_ARGS = profile=$(PROFILE) $(if $(IMAGENET_DIR),'dataset.root="$(IMAGENET_DIR)"') $(ARGS)
EXPERIMENTS := table1 table2 table3 table4 table6 table7 table8 table9 table10 table11 \
	figure1 figure8 figure9 figure10

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-ray $(EXPERIMENTS:%=reproduce-%) reproduce-table5 reproduce-evaluation \
	amplification breakdown ladder distances returns overshoot worst-case claims report status verify wheel benchmark audit \
	test test-slow test-gpu notebooks test-notebooks coverage docs lint format

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
	@echo "others download the weights of the paper's five networks, 1 GB; imagenette"
	@echo "also its images, 1.6 GB; paper needs ImageNet's images in IMAGENET_DIR."

# What the experiments, models and images of one's own, and their tests need; the second adds the rest.
EXTRAS := bundled,openvino,test,tracking
DEV_EXTRAS := $(EXTRAS),clusters,dev,docs,huggingface

# Makes .venv with the package and groups of its optional dependencies. In a terminal pip shows its progress.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pixelrobust needs Python 3.11 or newer; give one: make setup PYTHON=python3.12"; exit 1; }
	@echo "Installing pixelrobust and $(1) into .venv:"
	@echo "about $(2) GB to load and $(3) GB of disk, most of it PyTorch with its CUDA"
	@echo "libraries. Another index, or builds without CUDA: make $@ PIP_ARGS=…"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check $$([ -t 2 ] || echo --quiet) \
		--constraint constraints.txt $(PIP_ARGS) --editable '.[$(4)]'
endef

setup:  ## Make .venv with what the experiments and their tests need: 3 GB to load, 6.6 GB of disk.
	$(call install,what its experiments and their tests need,3,6.6,$(EXTRAS))
	@echo "Ready. Type \`make reproduce-table6\` to see real networks under pixel changes, \`make help\` for more."

setup-dev:  ## The same, with linters, documentation, notebooks, browser, clusters and transformers: 7.3 GB of disk.
	$(call install,all that its targets need,3.3,7.3,$(DEV_EXTRAS))
	@echo "Ready. Type \`make help\` for all targets."

setup-ray:  ## Make .venv-ray, for sweeps on a Ray cluster: Ray's launcher needs other versions of packages.
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --disable-pip-version-check $$([ -t 2 ] || echo --quiet) \
		--constraint constraints-ray.txt $(PIP_ARGS) --editable '.[bundled,openvino,ray]'

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
reproduce-table9:  ## Experiment 4: what pixel changes do to adversarial images; a minute.
reproduce-table10:  ## Networks retrained on images with a few pixels changed, beside controls; 3 minutes.
reproduce-table11:  ## Adversarial images shown to retrained networks; with the causes of the fall; 4 minutes after Table 10.
reproduce-figure1:  ## Pictures of images that flip; with the experiment breakdown; a minute.
reproduce-figure8:  ## The same as Table 6.
reproduce-figure9:  ## The same as Table 7.
reproduce-figure10:  ## The same as Table 8.

reproduce-evaluation: | $(BIN)/python  ## Tables 1 to 9, Figure 1, amplification and the claims; 8 minutes.
	@$(RUN) -m experiment=table1,table2,table3,table4,table6,table7,table8,table9,returns,amplification,figure1 \
		$(EXPERIMENT_ARGS)

amplification: | $(BIN)/python  ## How changes grow from layer to layer, beside noise of the same size; seconds.
	@$(RUN) experiment=amplification $(EXPERIMENT_ARGS)

distances: | $(BIN)/python  ## Whether retraining moves images away from the classification boundary; 8 minutes after Table 10.
	@$(RUN) experiment=distances $(EXPERIMENT_ARGS)

returns: | $(BIN)/python  ## A map over epsilon and num: which adversarial images return to their true class; 2 minutes.
	@$(RUN) experiment=returns $(EXPERIMENT_ARGS)

overshoot: | $(BIN)/python  ## Beyond the paper: adversarial images so many times beyond their own smallest epsilon.
	@$(RUN) experiment=overshoot $(EXPERIMENT_ARGS)

worst-case: | $(BIN)/python  ## Beyond the paper: random changes beside the worst that a search finds; 4 minutes.
	@$(RUN) experiment=worst-case $(EXPERIMENT_ARGS)

breakdown: | $(BIN)/python  ## Beyond the paper: how many changed pixels it takes until networks do fail; a minute.
	@$(RUN) experiment=breakdown $(EXPERIMENT_ARGS)

ladder: | $(BIN)/python  ## The same, beside the impulse noise of ImageNet-C, severities 1 to 5; 2 minutes.
	@$(RUN) -m experiment=breakdown,impulse-noise $(EXPERIMENT_ARGS)

claims: | $(BIN)/python  ## Which of the paper's claims hold, from the stored outcomes of PROFILE.
	@$(BIN)/python -m experiments.report results/$(PROFILE) claims --rebuild

report: | $(BIN)/python  ## All stored results of PROFILE as one page, results/PROFILE/report.html.
	@$(BIN)/python -m experiments.report results/$(PROFILE) --html --images $(EXPERIMENT_ARGS)

status: | $(BIN)/python  ## What runs have done, and what is missing.
	@$(BIN)/python -m experiments.status

verify: | $(BIN)/python  ## Compute a hundredth of the stored outcomes of PROFILE again, and compare.
	@$(BIN)/python -m experiments.verify results/$(PROFILE) $(EXPERIMENT_ARGS)

wheel: | $(BIN)/python  ## Build a wheel into dist/, to use without the repository.
	@$(BIN)/python -m build --no-isolation

benchmark: | $(BIN)/python  ## Images a second beside scripts that one would write by hand.
	@$(BIN)/python -m scripts.benchmark $(ARGS)

audit:  ## Look up every pinned package in the index's database of advisories; needs the network.
	@$(PYTHON) -m venv .audit
	@.audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@.audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

test: | $(BIN)/python  ## Run the tests, but for the slow ones; nine to ten minutes on two cores.
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --max-worker-restart=0 -m 'not slow'

test-gpu: | $(BIN)/python  ## Run the tests of what a GPU computes, beside the CPU; a minute. Other tests see no GPU.
	@PIXELROBUST_TEST_GPU=1 $(BIN)/python -m pytest -m gpu tests/engine tests/perturbation

test-slow: | $(BIN)/python  ## Run the slow tests.
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --max-worker-restart=0 -m slow

notebooks: | $(DEV)  ## Run all notebooks, and keep what they show; two minutes.
	@$(BIN)/python -m scripts.notebooks

test-notebooks: | $(DEV)  ## Run all notebooks, and compare with what they show; one of the slow tests.
	@$(BIN)/python -m pytest --numprocesses=2 tests/test_notebooks.py

coverage: | $(DEV)  ## Run the tests, and list the lines of pixelrobust/ that none of them runs; at least 90 % must be.
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --max-worker-restart=0 --cov

docs: | $(DEV)  ## Build the site of README, docs, results and API reference, into site/.
	@$(BIN)/python -m scripts.site

lint: | $(DEV)  ## Check format, style, types and directions of imports.
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: | $(DEV)  ## Format the code.
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

$(DEV):
	@echo "This needs tools for developers; type \`make setup-dev\` first."; exit 1

$(BIN)/python:
	@echo "There is no .venv yet; type \`make setup\` first."; exit 1
