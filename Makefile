# One command sets up, runs, reports: make sweep NAME=digits_kd
.DEFAULT_GOAL := help
.PHONY: help setup sweep finish pause resume stop preview calibrate status simulate report table compare best export reproduce watch ui sync notebooks test test-slow test-all test-floor test-slurm test-partition test-deploy sbom licences torture check format bench lock image up down $(ON)

# Commands that `make COMMAND-on` runs on the containers.
ON := $(addsuffix -on,sweep finish report table compare best export reproduce sync pause resume stop preview calibrate status simulate check)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FLOOR := .venv-floor
CONTAINERS ?= docker
COMPOSE ?= $(CONTAINERS) compose
NAME ?=
DATA ?=
SET ?=
ADD ?=
SEARCH ?=
SCHEDULER ?=
SLOTS ?=
REPLAYS ?=
SURROGATE ?=
WARM ?=
YES ?=
CLUSTER ?=
QUICK ?=
PORT ?=
TARGET ?=
FORMAT ?=
TRIAL ?=
METHOD ?=
OUT ?=
REGISTER ?=
NAMES ?=
RUNS_DIR ?=
WITH ?=
TORCH_INDEX ?=
BASE ?=
# A variable that nothing reads is a mistake: without this, make would take it and say nothing.
KNOWN := NAME DATA SET ADD SEARCH SCHEDULER SLOTS REPLAYS SURROGATE WARM YES CLUSTER QUICK PORT TARGET FORMAT TRIAL METHOD OUT REGISTER NAMES RUNS_DIR WITH TORCH_INDEX BASE
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
UNKNOWN := $(firstword $(filter-out $(KNOWN) PYTHON VENV BIN READY FLOOR CONTAINERS COMPOSE,$(GIVEN)))
ifneq ($(UNKNOWN),)
# Keys of a sweep file have no capital letters; variables have no small ones.
LOWER := $(shell printf '%s' '$(subst ','\'',$(UNKNOWN))' | grep -c '[a-z]')
$(error $(UNKNOWN): no such variable. $(if $(filter 1,$(LOWER)),Did you mean SET="$(UNKNOWN)=$(value $(UNKNOWN))"?,Known: $(KNOWN)))
endif
# What a user gives reaches the recipes through the environment, where neither make nor the shell runs any of it. Only
# $$, which stands for $ in make, is replaced.
define AS_IT_IS
override $(1) := $$(subst $$$$$$$$,$$$$,$$(value $(1)))
export $(1)
endef
$(foreach name,$(KNOWN),\
  $(if $(filter file,$(origin $(name))),,$(eval $(call AS_IT_IS,$(name)))))
PORT_OPTION = $(if $(PORT),--port "$$PORT")
FILE_OPTIONS = $(if $(DATA),--data "$$DATA") $(if $(SET),--set "$$SET")
# What the commands of kdas-sweeps are given, here and on containers, if it is more than NAME.
sweep_WORDS = $(FILE_OPTIONS) $(if $(ADD),--add "$$ADD") $(if $(YES),--yes) -- "$$NAME"
finish_WORDS = $(FILE_OPTIONS) $(if $(YES),--yes) -- "$$NAME"
report_WORDS = $(if $(TARGET),--target "$$TARGET") -- "$$NAME"
table_WORDS = $(if $(FORMAT),--format "$$FORMAT") -- "$$NAME"
compare_WORDS = -- "$$NAMES"
best_WORDS = $(if $(METHOD),--method "$$METHOD") -- "$$NAME"
export_WORDS = $(if $(FORMAT),--format "$$FORMAT") $(if $(TRIAL),--trial "$$TRIAL") $(if $(METHOD),--method "$$METHOD") \
  $(if $(OUT),--out "$$OUT") -- "$$NAME"
reproduce_WORDS = $(if $(OUT),--student "$$OUT") -- "$$NAME" "$$TRIAL"
sync_WORDS = $(if $(REGISTER),--register "$$REGISTER") -- "$$NAME"
stop_WORDS = -- "$$NAME" "$$TRIAL"
preview_WORDS = $(FILE_OPTIONS) -- "$$NAME"
calibrate_WORDS = $(FILE_OPTIONS) -- "$$NAME"
simulate_WORDS = $(if $(SEARCH),--search "$$SEARCH") $(if $(SCHEDULER),--scheduler "$$SCHEDULER") $(if $(SLOTS),--slots "$$SLOTS") \
  $(if $(REPLAYS),--replays "$$REPLAYS") $(if $(SURROGATE),--surrogate) $(if $(WARM),--warm "$$WARM") -- "$$NAME"

# A folder that was moved or copied still names its old place in the programs of .venv, and a Python that was removed
# leaves a dead link. Programs whose first line is a shell's tell nothing.
define VENV_FAULT
if test -e $(READY); then \
  if ! $(VENV)/bin/python -c "" 2>/dev/null; then echo "its Python is gone"; \
  else told="$$(sed -n '1s|^#!\(.*\)/python[0-9.]*$$|\1|p' $(VENV)/bin/kdas-sweeps 2>/dev/null)"; \
    test -z "$$told" || test "$$told" = "$$(cd $(VENV)/bin && pwd -P)" || echo "it was made for $$told"; fi; fi
endef
ifneq ($(filter-out help,$(MAKECMDGOALS)),)
FAULT := $(shell $(VENV_FAULT))
ifneq ($(FAULT),)
$(error $(CURDIR)/$(VENV): $(FAULT). Remove this folder, then run make setup)
endif
endif

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  NAME=<sweep or path of a .yaml>   DATA=<local copy of the data set>   SET='<key=value ...>'   RUNS_DIR=<where results go>"
	@echo "  TRIAL=<id, or name of a student's folder>   METHOD=<one method>   OUT=<file or folder to write>   ADD='<key=value ...>'   REGISTER=<model in MLflow>"

setup: $(READY) ## create .venv with all packages; other targets call it
	@echo "ready; try: make sweep NAME=digits_kd"

# Check the interpreter first: the lock holds no wheels for other versions.
# Compile byte code here: where writing it is forbidden, as in containers, every process would compile again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.11 to 3.13 is needed. Name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "setting up $(VENV): a few GB of packages, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(BIN)/python is $$($(BIN)/python --version 2>&1), but Python 3.11 to 3.13 is needed. Remove $(VENV), then run make setup." >&2; exit 2; }
	@command -v uv >/dev/null 2>&1 || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@UV=$$(command -v uv || echo $(BIN)/uv); export VIRTUAL_ENV="$(CURDIR)/$(VENV)"; \
	  "$$UV" pip install --quiet --compile-bytecode --require-hashes -r requirements.lock && \
	  "$$UV" pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

sweep: $(READY) ## run or resume NAME's sweep and report on it (NAME=digits_kd)
	@$(BIN)/kdas-sweeps sweep $(if $(CLUSTER),--cluster "$$CLUSTER") $(sweep_WORDS)

report: $(READY) ## rebuild NAME's report (TARGET=0.95: at another target)
	@$(BIN)/kdas-sweeps report $(report_WORDS)

table: $(READY) ## print NAME's table for a paper (FORMAT=latex|markdown|csv)
	@$(BIN)/kdas-sweeps table $(table_WORDS)

compare: $(READY) ## put several sweeps on one page (NAMES="a b")
	@$(BIN)/kdas-sweeps compare $(compare_WORDS)

best: $(READY) ## print NAME's best configuration (METHOD=one only)
	@$(BIN)/kdas-sweeps best $(best_WORDS)

export: $(READY) ## write a student of NAME (FORMAT=pth|safetensors|pt2|onnx)
	@$(BIN)/kdas-sweeps export $(export_WORDS)

reproduce: $(READY) ## train NAME's TRIAL again, and compare the curves
	@$(BIN)/kdas-sweeps reproduce $(reproduce_WORDS)

watch: $(READY) ## serve NAME's report, updated while it runs (PORT=5001)
	@$(BIN)/kdas-sweeps watch $(PORT_OPTION) -- "$$NAME"

ui: $(READY) ## open the runs in MLflow, print links to NAME's (PORT=5000)
	@$(BIN)/kdas-sweeps ui $(PORT_OPTION) $(if $(NAME),-- "$$NAME")

sync: $(READY) ## upload to MLflow what it lacks of NAME (REGISTER=model)
	@$(BIN)/kdas-sweeps sync $(sync_WORDS)

# Rented machines often have only the user root. The server asks for its token and listens on 127.0.0.1 only.
notebooks: $(READY) ## open the notebooks in Jupyter on 127.0.0.1
	@$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --allow-root analysis/notebooks

test: $(READY) ## run all but the slow tests (8 to 17 minutes on 2 cores)
	@$(BIN)/python -m pytest -m "not slow" --numprocesses=2 --dist=loadfile

test-slow: $(READY) ## run the slow tests: kills, faults, clusters (12 to 25 minutes)
	@$(BIN)/python -m pytest -m slow --numprocesses=2 --dist=worksteal

test-all: test test-slow ## run all tests

test-floor: $(FLOOR)/.ready ## run the trainer's tests on the lowest versions
	@PYTHONPATH="$(CURDIR)" $(FLOOR)/bin/python -m pytest tests/kdas

# Without Ray and MLflow, which the trainer does not need.
$(FLOOR)/.ready: requirements-floor.txt
	@echo "setting up $(FLOOR): about 5 GB of packages, once"
	@$(PYTHON) -m venv --clear $(FLOOR)
	@command -v uv >/dev/null 2>&1 || $(FLOOR)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@UV=$$(command -v uv || echo $(FLOOR)/bin/uv); export VIRTUAL_ENV="$(CURDIR)/$(FLOOR)"; \
	  "$$UV" pip install --quiet --compile-bytecode -r requirements-floor.txt
	@touch $@

# Both need root, and take the machine for themselves: see docs/deploying.md.
test-slurm: $(READY) ## run a sweep through a SLURM of this machine (4 minutes)
	@tests/deploy/slurm.sh

test-partition: $(READY) ## cut a cluster's network in a sweep (4 minutes)
	@tests/deploy/partition.sh

sbom: $(READY) ## write sbom.json, the packages of .venv, for scanners
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file sbom.json $(BIN)/python
	@echo sbom.json

licences: $(READY) ## list the packages' licences; fail if one is new
	@$(BIN)/pip-licenses

check: $(READY) ## check format, lint, types and import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## format the code, fix what lint can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

finish: $(READY) ## end NAME's search now, then confirm and report
	@$(BIN)/kdas-sweeps finish $(if $(CLUSTER),--cluster "$$CLUSTER") $(finish_WORDS)

pause: $(READY) ## let NAME's sweep start no more trials
	@$(BIN)/kdas-sweeps pause -- "$$NAME"

resume: $(READY) ## let NAME's sweep start trials again
	@$(BIN)/kdas-sweeps resume -- "$$NAME"

stop: $(READY) ## stop NAME's TRIAL of the search early
	@$(BIN)/kdas-sweeps stop $(stop_WORDS)

preview: $(READY) ## estimate NAME's trials and cost; measures missing prices, trains nothing
	@$(BIN)/kdas-sweeps preview $(preview_WORDS)

calibrate: $(READY) ## measure NAME's prices again, or show those it has
	@$(BIN)/kdas-sweeps calibrate $(calibrate_WORDS)

status: $(READY) ## show NAME's progress, from any terminal
	@$(BIN)/kdas-sweeps status -- "$$NAME"

simulate: $(READY) ## compare searches on NAME's recorded curves (SEARCH=)
	@$(BIN)/kdas-sweeps simulate $(simulate_WORDS)

torture: $(READY) ## kill a sweep 20 times, check its results (30 minutes)
	@TORTURE_KILLS=20 TORTURE_CONFIGURATIONS=12 $(BIN)/python -m pytest tests/sweeps/test_torture.py

bench: $(READY) ## measure speed (an hour; QUICK=1: 8 minutes; NAME=part)
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(DATA),--data "$$DATA") $(if $(NAME),-- "$$NAME")

# The image's lock holds the same versions, without notebooks and development tools.
LOCK = pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet --upgrade
lock: $(READY) ## rebuild requirements.lock from pyproject.toml
	@UV=$$(command -v uv || echo $(BIN)/uv); "$$UV" $(LOCK) --all-extras -o requirements.lock pyproject.toml && \
	  "$$UV" $(LOCK) --extra onnx --extra postgresql --extra server --extra timm --constraint requirements.lock -o docker/requirements.lock pyproject.toml && \
	  echo uv | "$$UV" $(LOCK) --no-annotate -o docker/build.lock -

# Containers: see docker/README.md. Nothing here needs .venv.
COMPOSED = $(COMPOSE) -f docker/compose.yaml $(foreach each,$(WITH),-f docker/compose.$(each).yaml)
ifneq ($(filter-out tls gpu,$(WITH)),)
$(error WITH: expected tls or gpu or both, got $(WITH))
endif

image: ## build the container image (TORCH_INDEX=: CPU only; BASE=)
	@$(CONTAINERS) build -f docker/Dockerfile --build-arg COMMIT="$$(git describe --always --abbrev=40 --exclude='*' --dirty=+changes)" \
	  $(if $(BASE),--build-arg BASE="$$BASE") \
	  $(if $(TORCH_INDEX),--build-arg TORCH_INDEX="$$TORCH_INDEX") -t localhost/kdas-sweeps:latest .

up: ## start database, MLflow, Ray's head and workers (WITH=tls)
	@image=$$(sed -n 's/^IMAGE=//p' docker/.env 2>/dev/null); image=$${image:-localhost/kdas-sweeps:latest}; \
	  $(CONTAINERS) image inspect "$$image" >/dev/null 2>&1 || { echo "$$image: no such image here. Build it: make image" >&2; exit 2; }
	@mkdir -p docker/files && docker/make-secrets $(if $(filter tls,$(WITH)),&& docker/make-certificates)
	@$(COMPOSED) up --detach --no-build --remove-orphans

down: ## stop the containers; data and results stay
	@$(COMPOSED) down

sweep-on: ## run NAME's sweep on them; also report-on, sync-on ...
$(ON): %-on:
	@$(COMPOSED) --profile job run --rm $$(test -t 0 || echo -T) job $* $(or $($*_WORDS),-- "$$NAME")

test-deploy: $(READY) ## test the containers: build, run, restore (12 minutes)
	@$(BIN)/python -m pytest --capture=no tests/docker/deployment.py
