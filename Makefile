# Every command of the project; CI calls the same names. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
BROKERS ?= 1
ARGS ?=
# a server that cannot be had is a failure in CI; elsewhere its tests are skipped
SERVERS = $(BIN)/python -m stack install || test -z "$$CI"

DEMO_OUT = $(if $(findstring --out,$(ARGS)),,--out build/demo)

ORDINARY = "not compose and not torture and not alone"
# What asks how fast something is waits until nothing else runs.
ALONE = "alone and not torture"
# What starts whole fleets waits more than it works: it runs beside the rest.
FLEETS = $(addprefix tests/,acceptance documents foreign lifecycle secure torture)
# Why tests failed, or else the last line, for who sees only the end of a long output.
FAILURES = awk '/^=+ (FAILURES|ERRORS) =+$$/ {on = 1} {last = $$0} on; END {if (!on) print last}'

SERVER_FREE = "not kafka and not redis and not prometheus and not compose and not secure and not torture and not alone"

.PHONY: help demo fmt lint types arch docs reference unit check test test-redis test-kafka test-pythons \
	torture torture-all fuzz bench compare schemas \
	stack stack-down compose-test lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

.venv: .venv/.made ## the environment, versions pinned with hashes
.venv/.made: requirements/dev.txt pyproject.toml
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# only what a run needs; the package is found by PYTHONPATH, so nothing is built
.venv/.run: requirements/run.txt
	@test -e .venv/.made || { echo "making .venv, once" >&2; $(PYTHON) -m venv .venv && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<; }
	@touch $@

demo: .venv/.run ## watch a recorded overload being shifted; needs no server
	@PYTHONPATH=. $(BIN)/python -m shifter.cli demo $(DEMO_OUT) $(ARGS)

fmt: .venv ## format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

lint: .venv ## formatting and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv ## mypy --strict
	$(BIN)/mypy

arch: .venv ## import contracts
	$(BIN)/lint-imports --no-cache

# an environment of its own: what builds the site is never imported by the product
.venv-docs/.made: requirements/docs.txt
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

reference: .venv ## write the pages of docs/ that are made of code
	$(BIN)/python -m docs_build

docs: .venv-docs/.made ## build the site in build/site; a dead link or an undocumented name fails
	@set -o pipefail; NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict 2>&1 | { grep -vE "^INFO|^$$" || true; }

unit: .venv ## tests that need no server
	$(BIN)/pytest -q -m $(SERVER_FREE) $(ARGS)

check: lint types arch unit ## everything that needs no server

test: .venv ## everything, on real servers that it starts itself
	$(BIN)/ruff format --check . && $(BIN)/ruff check --quiet . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory docs
	@$(SERVERS)
	@mkdir -p build
	@$(BIN)/pytest -m $(ORDINARY) $(FLEETS) $(ARGS) > build/test-fleets.log 2>&1 & \
	fleets=$$!; \
	$(BIN)/pytest -m $(ORDINARY) $(addprefix --ignore=,$(FLEETS)) $(ARGS) 2>&1 | tee build/test-rest.log; rest=$${PIPESTATUS[0]}; \
	wait $$fleets; fleets=$$?; \
	$(BIN)/pytest -m compose tests/compose $(ARGS); compose=$$?; \
	$(BIN)/pytest -m $(ALONE) tests $(ARGS); alone=$$?; \
	for log in rest fleets; do echo "$$log:"; $(FAILURES) build/test-$$log.log | tail -n 150; done; \
	exit $$((rest | fleets | compose | alone))

# All of it on another Python: make test BIN=build/pythons/3.13/bin
test-pythons: .venv ## tests that need no server, on each Python: VERSIONS="3.12 3.14"
	$(BIN)/python -m stack.pythons $(VERSIONS) -- -q -m $(SERVER_FREE) $(ARGS)

test-redis: .venv ## tests on a real redis-server
	@$(SERVERS)
	$(BIN)/pytest -q -m "redis and not torture" $(ARGS)

test-kafka: .venv ## tests on a real Kafka broker
	@$(SERVERS)
	$(BIN)/pytest -q -m "(kafka or secure) and not torture" $(ARGS)

torture: .venv ## one scenario: SCENARIO=F01 [SEED=1 SECONDS=60 LOG=kafka|kafka3|sqlite]
	@$(SERVERS)
	$(BIN)/python -m tests.torture.harness $(or $(SCENARIO),F01) --keep --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(if $(LOG),--log $(LOG)) $(ARGS)

torture-all: .venv ## the long fault scenarios, which `make test` leaves out
	@$(SERVERS)
	$(BIN)/pytest -m torture $(ARGS)

fuzz: .venv ## 10^6 bad records through decode, 10^5 through a worker, 10^5 bad values of state
	@$(SERVERS)
	$(BIN)/python -m tests.bad_inputs.fuzz decode --count 1000000 $(ARGS)
	$(BIN)/python -m tests.bad_inputs.fuzz work --count 100000 --log sqlite $(ARGS)
	$(BIN)/python -m tests.bad_inputs.fuzz work --count 100000 --log kafka $(ARGS)
	$(BIN)/python -m tests.bad_inputs.state_fuzz read --count 100000 $(ARGS)
	$(BIN)/python -m tests.bad_inputs.state_fuzz read --count 100000 --state sqlite $(ARGS)
	$(BIN)/python -m tests.bad_inputs.state_fuzz work --count 100000 $(ARGS)

bench: .venv ## measure against raw clients in the same run; writes build/bench.json
	$(BIN)/python -m stack install
	$(BIN)/python -m benchmarks $(ARGS)

compare: .venv ## judge four policies on a real trace; writes build/compare.json
	$(BIN)/python -m examples.inference.compare $(ARGS)

schemas: .venv ## write the published contracts
	$(BIN)/shifter schemas --write schemas

stack: .venv ## start Kafka and Redis; use: eval "$$(make -s stack)"
	@$(BIN)/python -m stack up --brokers $(BROKERS)

stack-down: .venv ## stop them
	@$(BIN)/python -m stack down

compose-test: .venv ## bring docker-compose.yml up, run a job through it, take it down
	$(BIN)/pytest -m compose tests/compose $(ARGS)

lock: .venv ## pin the versions anew
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-strip-extras --no-header --python-version 3.11 --extra aiohttp --extra dns --extra fast --extra grpc --extra http --extra examples --extra ui --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-strip-extras --no-header --python-version 3.11 --extra dns --extra fast --extra grpc --extra http pyproject.toml -c requirements/dev.txt -o requirements/run.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-strip-extras --no-header --python-version 3.11 --group docs -o requirements/docs.txt

clean: ## forget what was built
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
