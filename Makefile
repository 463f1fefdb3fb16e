# One command sets up, runs, reports: make sweep NAME=digits_kd
.DEFAULT_GOAL := help
.PHONY: help setup sweep preview status simulate report compare watch ui notebooks test test-slow test-all test-floor torture check format bench lock

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FLOOR := .venv-floor
NAME ?=
DATA ?=
SET ?=
SEARCH ?=
SCHEDULER ?=
SLOTS ?=
REPLAYS ?=
SURROGATE ?=
YES ?=
CLUSTER ?=
QUICK ?=
PORT ?=
NAMES ?=
PORT_OPTION = $(if $(PORT),--port $(PORT))
DATA_OPTION = $(if $(DATA),--data "$(DATA)")
# The shell reads it from the environment: its values may hold quotes and braces.
SET_OPTION = $(if $(SET),--set "$$SET")

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  NAME=<sweep or path of a .yaml>   DATA=<local copy of the dataset>   SET='<key=value ...>'   RUNS_DIR=<where results go>"

setup: $(READY) ## the virtual environment in .venv with all that is needed; the other targets call it

# The interpreter is looked at first: the lock holds no wheels for others.
# Byte code is compiled here: where the environment forbids to write any, as containers do, every process would do so anew.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.11 to 3.13 is needed. Name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "setting up $(VENV): a few GB of packages, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null 2>&1 || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@UV=$$(command -v uv || echo $(BIN)/uv); export VIRTUAL_ENV="$(CURDIR)/$(VENV)"; \
	  "$$UV" pip install --quiet --compile-bytecode --require-hashes -r requirements.lock && \
	  "$$UV" pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

sweep: $(READY) ## run NAME's sweep, or go on with it, then its report (NAME=digits_kd)
	@$(BIN)/kdas-sweeps sweep "$(NAME)" $(DATA_OPTION) $(SET_OPTION) $(if $(YES),--yes) $(if $(CLUSTER),--cluster "$(CLUSTER)")

report: $(READY) ## build NAME's report again from what is on disk
	@$(BIN)/kdas-sweeps report "$(NAME)"

compare: $(READY) ## several sweeps on one page (NAMES="a b")
	@$(BIN)/kdas-sweeps compare "$(NAMES)"

watch: $(READY) ## NAME's report on 127.0.0.1, built anew while the sweep runs (PORT=5001)
	@$(BIN)/kdas-sweeps watch "$(NAME)" $(PORT_OPTION)

ui: $(READY) ## open the runs in MLflow's page on 127.0.0.1 (PORT=5000)
	@$(BIN)/kdas-sweeps ui $(PORT_OPTION)

# Rented machines often have no other user than root; the server asks for its token and is reached from here alone.
notebooks: $(READY) ## open the notebooks in Jupyter on 127.0.0.1
	@$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --allow-root analysis/notebooks

test: $(READY) ## the tests, but for the slow ones (under 5 minutes on 2 cores)
	@$(BIN)/python -m pytest -m "not slow" --numprocesses=2 --dist=loadfile

test-slow: $(READY) ## the slow tests: kills, clusters, whole sweeps (up to 10 minutes)
	@$(BIN)/python -m pytest -m slow

test-all: test test-slow ## all tests

test-floor: $(FLOOR)/.ready ## the trainer's tests on the lowest supported versions, PyTorch 2.11 among them
	@PYTHONPATH="$(CURDIR)" $(FLOOR)/bin/python -m pytest tests/kdas

# Neither Ray nor MLflow is in it: the trainer needs neither.
$(FLOOR)/.ready: requirements-floor.txt
	@echo "setting up $(FLOOR): about 5 GB of packages, once"
	@$(PYTHON) -m venv --clear $(FLOOR)
	@command -v uv >/dev/null 2>&1 || $(FLOOR)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@UV=$$(command -v uv || echo $(FLOOR)/bin/uv); export VIRTUAL_ENV="$(CURDIR)/$(FLOOR)"; \
	  "$$UV" pip install --quiet --compile-bytecode -r requirements-floor.txt
	@touch $@

check: $(READY) ## format, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## put the code into its format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

preview: $(READY) ## what NAME would train and cost, before it starts
	@$(BIN)/python -m sweeps preview "$(NAME)" $(DATA_OPTION) $(SET_OPTION)

status: $(READY) ## how far NAME is, from another terminal or another machine
	@$(BIN)/python -m sweeps status "$(NAME)"

simulate: $(READY) ## searches and schedulers compared on NAME's recorded curves (SEARCH= SCHEDULER= SLOTS= REPLAYS=)
	@$(BIN)/python -m sweeps simulate "$(NAME)" $(if $(SEARCH),--search "$(SEARCH)") $(if $(SCHEDULER),--scheduler "$(SCHEDULER)") \
	  $(if $(SLOTS),--slots "$(SLOTS)") $(if $(REPLAYS),--replays "$(REPLAYS)") $(if $(SURROGATE),--surrogate)

torture: $(READY) ## kill a sweep of 30 trials 20 times and compare it with an undisturbed one (half an hour)
	@TORTURE_KILLS=20 TORTURE_CONFIGURATIONS=12 $(BIN)/python -m pytest tests/sweeps/test_torture.py

bench: $(READY) ## our speed against the field's usual trainer and against the ideal (QUICK=1: minutes; NAME=one part)
	@$(BIN)/python -m benchmarks $(NAME) $(if $(QUICK),--quick) $(DATA_OPTION)

lock: $(READY) ## resolve pyproject.toml into requirements.lock anew
	@UV=$$(command -v uv || echo $(BIN)/uv); "$$UV" pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet --upgrade -o requirements.lock
