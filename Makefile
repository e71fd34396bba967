# Everything starts here: `make help`. Needs a shell, make, any python3 (or uv), and PyPI.
SHELL = /bin/sh
PY = .venv/bin/python
# Several at a time: the tests wait for servers and clocks more than they compute.
PYTEST = $(PY) -m pytest -n 2
QUICK = $(PY) -m pytest -n 3 -m "not slow"
COMPILE = requirements/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.12 \
	--custom-compile-command "make requirements"

.DEFAULT_GOAL := help
.PHONY: help up test check bench bench-quick bench-long faults faults-long scale test-16 roles lint format fuzz guide schema requirements audit clean sync-base sync-dev

help: ## what can be done, and the variables that change it
	@echo "make ..."
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Environment variables (make up needs none):"
	@awk -F '=|  # ' '/^#?[A-Z0-9_]+=/ { sub(/^#/, "", $$1); printf "  %-32s %s%s\n", $$1, $$3, ($$2 == "" ? "" : " [" $$2 "]") }' .env.example

up: sync-base ## start it all: database, web, workers, and a demo; Ctrl-C ends it all
	@exec $(PY) manage.py up

test: sync-dev ## all tests
	$(PYTEST) $(PYTEST_ARGS)

check: sync-dev ## the quick tests
	$(QUICK) $(PYTEST_ARGS)

bench: sync-dev ## measure it all with its floors, and judge: bench/README.md (under 15 minutes; needs wrk)
	$(PY) -m bench standard

bench-quick: sync-dev ## the same with short runs, the main figures only (under 3 minutes)
	$(PY) -m bench quick

bench-long: sync-dev ## and with 5 million log rows and a pinned horizon
	$(PY) -m bench long

faults: sync-dev ## every fault once, with 1,000 events each; writes tests/faults/REPORT.md
	$(PY) -m tests.faults once $(FAULTS_ARGS)

faults-long: sync-dev ## N (300) kills at random moments, many in each deployment
	$(PY) -m tests.faults long --kills $${N:-300} $(FAULTS_ARGS)

scale: sync-dev ## the lists over ten million log rows: what each question costs (takes minutes, and 10 GB)
	SCALE=$${SCALE:-10000000} $(PY) -m pytest -q -s tests/api/test_scale.py $(PYTEST_ARGS)

test-16: sync-dev ## all tests on PostgreSQL 16 instead of 18
	DATABASE_URL= MIGRATION_DATABASE_URL= EMBEDDED_POSTGRES=16 $(PYTEST) $(PYTEST_ARGS)

roles: sync-dev ## the table of who may do what: each cell is asked
	$(PY) -m pytest tests/api/test_roles_matrix.py -q -s

lint: sync-dev ## style, formatting, import contracts, types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo
	.venv/bin/mypy .

format: sync-dev ## put the code into its form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

fuzz: sync-dev ## the API against its document, for FUZZ_SECONDS (300)
	FUZZ_SECONDS=$${FUZZ_SECONDS:-300} $(PY) -m pytest tests/fuzz -rP $(PYTEST_ARGS)

guide: ## docs/api.md, block by block, against a running `make up`
	@$(PY) docs/run.py

schema: sync-dev ## write docs/openapi.yaml anew
	$(PY) manage.py spectacular --validate --fail-on-warn --file docs/openapi.yaml

requirements: ## pin anew what pyproject.toml asks for, with hashes
	$(COMPILE) --upgrade pyproject.toml -o requirements/base.txt
	$(COMPILE) --upgrade --extra dev -c requirements/base.txt pyproject.toml -o requirements/dev.txt

audit: sync-base ## is a vulnerability known in what we install? (asks PyPI; says so where it can't)
	@$(PY) requirements/audit.py

clean: ## remove what can be made again (not .data)
	rm -rf .venv .uv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

sync-base:
	@requirements/sync base

sync-dev:
	@requirements/sync dev
