# Verbs for developers; ARGS are more arguments of pytest.
PYTHON ?= python
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: format lint types shell check-style test slow long cluster gpu gpu-files figures check
format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
types:
	$(PYTHON) -m mypy
shell:
	shellcheck -s bash launch/*.s* tests/golden/* tests/cluster/*.sh findings/*.sh docs/*.sh .ci/run
test:
	$(PYTHON) -m pytest $(ARGS)
slow:
	$(PYTHON) -m pytest -m "slow and not long" $(ARGS)
long:
	$(PYTHON) -m pytest -m "long or hours" -v -rP --no-header --durations=0 | tee tests/long-$$(date +%F).log
cluster:
	$(PYTHON) -m pytest -m cluster -rs --durations=0 $(ARGS)
gpu: # on a machine with a card; ARGS are of tests/gpu/check.py
	$(PYTHON) tests/gpu/check.py $(ARGS) | tee tests/gpu-$$(date +%F).log
gpu-files: # what a machine without a registry wants for it, into .gpu/; PLATFORM as pip has it
	mkdir -p .gpu
	$(PYTHON) -m pip download -q --no-deps --only-binary=:all: $(PLATFORM) -c constraints.txt -d .gpu mpich mpi4py
	[ ! -d "$${GAN_MPI_DATA:-}/mnist" ] || cp -rL "$$GAN_MPI_DATA/mnist" .gpu/
figures: # GAN_MPI_DATA=DIR make figures, half a day; FIGURES=federated makes one group
	docs/figures.sh $$GAN_MPI_DATA/mnist $(FIGURES) | tee tests/figures-$$(date +%F).log

check-style: lint types shell
check: check-style test
