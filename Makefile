# Verbs for developers; `make check` is what CI runs after the README's two commands.
PYTHON ?= python
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: format lint types shell check-style test long cluster check
format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
types:
	$(PYTHON) -m mypy
shell:
	shellcheck -s bash launch/*.s* tests/golden/* tests/cluster/*.sh findings/*.sh .ci/run
test:
	$(PYTHON) -m pytest
long:
	$(PYTHON) -m pytest -m "long or hours" -v -rP --no-header --durations=0 | tee tests/long-$$(date +%F).log
cluster:
	$(PYTHON) -m pytest -m cluster -rs --durations=0

check-style: lint types shell
check: check-style test
