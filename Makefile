# Thin calls of the caskit command line over a virtual environment; `make help` lists the targets.

DATA ?= fashion-mnist
GEN ?= vqvae2
N ?=
SEED ?= 0
WORKERS ?=
RECIPE ?= $(if $(findstring imagefolder:,$(DATA)),$(error DATA=$(DATA) needs RECIPE=NAME as well),$(DATA))
# Never from the environment, where every node of a Ray cluster has it: joining one is said on the command line.
RAY_ADDRESS :=
DEVICE ?=
CHECKPOINT ?=
BEST_OF ?=
ACCEPT ?=
LEVEL ?= full
# Where samples are rejected and drawn anew, the fewer shards, the fewer microbatches that are mostly padding (docs/LOG.md);
# but a shard is one worker's work, so with many of them a smaller number is faster.
SHARD_vqvae2-fashion-mnist := 5000
SAMPLES_PER_SHARD ?= $(if $(N)$(filter 1,$(BEST_OF)),,$(SHARD_$(firstword $(subst :, ,$(GEN)))-$(DATA)))

name = $(subst :,-,$(subst /,-,$(1)))
RUNS := runs/$(call name,$(DATA))
REAL := $(RUNS)/real
BASELINE = $(RUNS)/baseline-$(RECIPE)-seed$(SEED)
FIT := $(RUNS)/fit-$(call name,$(GEN))-seed$(SEED)
OUT ?= $(RUNS)/$(call name,$(GEN))$(if $(N),-$(N))$(if $(BEST_OF),-best$(BEST_OF)$(if $(ACCEPT),-accept$(ACCEPT))$(if $(judged),-$(RECIPE)))-seed$(SEED)

VENV := .venv
CASKIT := $(VENV)/bin/caskit
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
# Each stage of `make cas` says its number, about how long it takes, and its command. The seconds were measured on two cores
# of an AMD EPYC (those of digits while other work shared them); they hold for the defaults, so they are left out where N, a checkpoint or BEST_OF is given.
SECONDS_fashion-mnist := 10 330 5 65 10 65 10 5
SECONDS_digits := 5 15 2 10 8 12 8 3
estimate = $(if $(N)$(CHECKPOINT)$(BEST_OF),,$(addprefix :,$(word $(1),$(SECONDS_$(call name,$(DATA))))))
stage = $(if $(STAGES),@)$(CASKIT) $(if $(STAGES),--stage $(1)/$(STAGES)$(call estimate,$(1)))

.PHONY: help setup data fit sample verify judge baseline train score report cas test check bench clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## list the targets and the variables
	@echo "make TARGET [VARIABLE=value ...]; every target brings what it needs"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  DATA=$(DATA)   fashion-mnist, digits or imagefolder:PATH"
	@echo "  GEN=$(GEN)   FAMILY[:PRESET]; without a preset, the one named like DATA"
	@echo "  CHECKPOINT=$(CHECKPOINT)   folder of a fit; empty: the one that ships with the preset"
	@echo "  BEST_OF=$(BEST_OF)   keep the best of so many samples by the Real classifier of RECIPE; 1: take the first; empty: what the checkpoint says"
	@echo "  ACCEPT=$(ACCEPT)   with BEST_OF: keep the first sample with so much probability of its label; empty: draw all"
	@echo "  N=$(N)   synthetic images; empty: as many as the real train split holds"
	@echo "  SAMPLES_PER_SHARD=$(SAMPLES_PER_SHARD)   of the replica; empty: caskit's own choice"
	@echo "  SEED=$(SEED)   of the replica, of a fit and of the trainings"
	@echo "  RECIPE=$(if $(findstring file,$(origin RECIPE)),$(filter-out imagefolder:%,$(DATA)),$(RECIPE))   how the classifiers are trained"
	@echo "  WORKERS=$(WORKERS)   sampling processes; empty: one per CPU core or GPU"
	@echo "  RAY_ADDRESS=$(RAY_ADDRESS)   of a Ray cluster to join; empty: Ray runs inside the command"
	@echo "  DEVICE=$(DEVICE)   cpu, cuda or cuda:i; empty: a GPU if there is one"
	@echo "  LEVEL=$(LEVEL)   of verify: quick, full or deep"
	@echo "  OUT=$(OUT)"

setup: $(VENV)/.all ## make the virtual environment .venv and install caskit into it

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo "caskit needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python" >&2; exit 2; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "caskit needs Python 3.11 or newer, PYTHON=$(PYTHON) is not" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(VENV)/.all: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing caskit and its packages into $(VENV): torch is large, this takes minutes"
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing caskit, its packages and the tools for its development into $(VENV): this takes minutes"
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@ $(VENV)/.all

data: setup ## the real dataset as frozen sets, train and test
	$(call stage,1) data $(DATA) --out $(REAL)

fit: data ## fit the generator GEN to the real train split
	$(CASKIT) fit --gen $(GEN) --data $(REAL)/train --set seed=$(SEED) $(if $(DEVICE),--device $(DEVICE)) --out $(FIT)

# With BEST_OF from 2 the judge, which is the classifier of the Real row, comes before what it judges.
judged := $(filter-out 1,$(BEST_OF))
sample: data $(if $(judged),judge) ## a synthetic replica of the real train split, N images
	$(call stage,$(if $(judged),3,2)) sample --gen $(GEN) $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)) $(if $(N),--num $(N)) \
		$(if $(BEST_OF),--best-of $(BEST_OF)) $(if $(judged),--classifier $(BASELINE)/classifier) $(if $(ACCEPT),--accept $(ACCEPT)) \
		$(if $(SAMPLES_PER_SHARD),--samples-per-shard $(SAMPLES_PER_SHARD)) \
		--like $(REAL)/train --seed $(SEED) $(if $(WORKERS),--workers $(WORKERS)) \
		$(if $(RAY_ADDRESS),--ray-address $(RAY_ADDRESS)) $(if $(DEVICE),--device $(DEVICE)) --out $(OUT)/replica

verify: sample ## check the replica against its ids
	$(call stage,$(if $(judged),4,3)) verify $(OUT)/replica --level $(LEVEL)

judge: data
	$(call stage,$(if $(judged),2,4)) train --data $(REAL)/train --recipe $(RECIPE) --seed $(SEED) \
		$(if $(DEVICE),--device $(DEVICE)) --out $(BASELINE)/classifier

baseline: judge
	$(call stage,5) score --classifier $(BASELINE)/classifier --real $(REAL)/test $(if $(DEVICE),--device $(DEVICE)) \
		--out $(BASELINE)/score

train: sample ## train the classifier RECIPE on the replica
	$(call stage,6) train --data $(OUT)/replica --recipe $(RECIPE) --seed $(SEED) $(if $(DEVICE),--device $(DEVICE)) \
		--out $(OUT)/classifier-$(RECIPE)

score: baseline train ## test it on the real test split, beside the Real row of the same recipe
	$(call stage,7) score --classifier $(OUT)/classifier-$(RECIPE) --real $(REAL)/test $(if $(DEVICE),--device $(DEVICE)) \
		--baseline $(BASELINE)/score --out $(OUT)/score-$(RECIPE)

report: score ## one HTML page of it
	$(call stage,8) report $(OUT)/score-$(RECIPE) --out $(OUT)/report.html

cas: STAGES := 8
cas: verify report ## all of it: data, replica, verification, Real row, score, report

test: $(VENV)/.dev ## run the tests
	$(VENV)/bin/python -m pytest

check: $(VENV)/.dev ## lint, format and types; what pre-commit runs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.dev ## a short form of every benchmark, as a table (benchmarks/bench.py)
	$(VENV)/bin/python benchmarks/bench.py

clean: ## remove caches and build products; runs/ and .venv stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
