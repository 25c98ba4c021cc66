# Verbs for developers; ARGS are more arguments of pytest.
PYTHON ?= python
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: format lint types shell check-style test slow long cluster figures check
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
figures: # GAN_MPI_DATA=DIR make figures, half a day; FIGURES=federated makes one group
	docs/figures.sh $$GAN_MPI_DATA/mnist $(FIGURES) | tee tests/figures-$$(date +%F).log

check-style: lint types shell
check: check-style test
