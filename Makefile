# Every target works from a fresh clone; the first one that needs it makes .venv.
PYTHON ?= python3
SADARI = .venv/bin/sadari
RUN = .venv/bin/python

.PHONY: climb test check bench matrix slow readme clean

climb: .venv/ready  ## climb the ladder on bundled real data; the last line is the path of the report
	@$(SADARI) climb diabetes --out runs/diabetes-climb

test: .venv/ready  ## every test that runs in minutes, one thread a process
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n auto -m "not slow"

check: .venv/ready  ## style, types and the direction of imports
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/mypy
	@$(RUN) -m pytest -q tests/test_house.py

matrix: .venv/ready  ## each rung against six proofs: writes matrix.json and the table in README.md
	@$(RUN) -m tests.matrix

slow: .venv/ready  ## the long proofs: fifty seeds, thirty kills, a gigabyte
	@$(RUN) -m pytest -q -m slow

bench: .venv/ready  ## side by side with the peers; writes benchmarks/results/*.csv
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	@missed=; for file in benchmarks/[a-z]*.py; do \
		echo "== $$file"; $(RUN) $$file || missed="$$missed $$file"; \
	done; test -z "$$missed" || { echo "short of a goal:$$missed"; exit 1; }

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/ready: pyproject.toml
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[test,check]"
	@touch $@
