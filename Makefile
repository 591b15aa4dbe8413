# The project's commands; `make` alone lists them. Written for GNU make 3.81 (macOS) and newer.

ifeq ($(wildcard pyproject.toml),)
$(error Run make in the project's folder, or name the folder: make -C path/to/project)
endif

.DEFAULT_GOAL := help
.SUFFIXES:

# The commands run as in the activated environment: kedro-mlflow looks for `mlflow` on PATH.
IN_VENV := exec env VIRTUAL_ENV="$$PWD/.venv" PATH="$$PWD/.venv/bin:$$PATH"

# No usage statistics to third parties; MLflow understands only the word "true".
export DO_NOT_TRACK := true

# Every command is a process of its own; without cached bytecode each would take seconds more.
unexport PYTHONDONTWRITEBYTECODE

# HOST counts on the command line only: many shells export it as the machine's name.
ADDRESS := $(if $(filter command,$(origin HOST)),--host "$(HOST)") $(if $(PORT),--port "$(PORT)")

.PHONY: help setup run serve viz ui part check notebooks up demo logs down docs test lint format clean distclean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'Every command but clean and those with Docker first updates the environment in .venv. Variables:'
	@echo '  PYTHON=               the interpreter for .venv: a version from 3.11 to 3.14, or a path'
	@echo '  PART=                 a part of the course; SOLUTION=1 checks ours, HINTS=ko hints in Korean'
	@echo '  HOST= PORT= WORKERS=  where serve, viz, ui and notebooks listen; how many processes serve'
	@echo '  PROFILE=              for up, demo, logs and down: any of tutorial observability replicas'
	@echo '  VOLUMES=1             make down deletes the data, too'
	@echo '  RUN_ARGS=             passed on to kedro run: make run RUN_ARGS="--pipeline training"'
	@echo '  PYTEST_ARGS=          passed on to pytest: make test PYTEST_ARGS="-k contract"'

setup: ## Make or update the environment and do nothing else
	@scripts/setup.sh

run: setup ## Run all pipelines, from the source to a deployed release, and sum up
	@$(IN_VENV) .venv/bin/kedro run $(RUN_ARGS)

serve: setup ## Serve the deployed release (port 8000)
	@$(IN_VENV) .venv/bin/kedro serve $(ADDRESS) $(if $(WORKERS),--workers "$(WORKERS)")

# Its imports warn of names that other libraries mean to drop.
viz: setup ## Look at the pipelines in Kedro-Viz (port 4141)
	@$(IN_VENV) PYTHONWARNINGS=ignore .venv/bin/kedro viz run $(ADDRESS)

# MLflow's job runner would start fourteen more processes, of which nothing here makes use.
ui: setup ## Look at experiments and models in MLflow (port 5000)
	@$(IN_VENV) MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false .venv/bin/kedro mlflow ui $(ADDRESS)

part: setup ## Lay the folder work/partN of a part of the course: make part PART=1
	@$(IN_VENV) .venv/bin/python -m course.part lay "$(PART)"

check: setup ## Check what you wrote in it: make check PART=1
	@$(IN_VENV) .venv/bin/python -m course.part check "$(PART)" $(if $(SOLUTION),--solution)

notebooks: ## Open the notebooks in JupyterLab, which is installed if need be (port 8888)
	@scripts/setup.sh --group notebooks
	@$(IN_VENV) .venv/bin/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) \
		$(subst --host,--ip,$(ADDRESS)) --LabApp.default_url=/lab/tree/notebooks/00_tour.ipynb

up: ## Start the whole stack on separate servers, in Docker
	@scripts/stack.sh up

demo: ## Start the stack in Docker, run the pipelines in it and predict
	@scripts/stack.sh demo

logs: ## Follow what the stack in Docker says
	@scripts/stack.sh logs

down: ## Stop the stack in Docker; its data stays
	@scripts/stack.sh down

docs: setup ## Write the reference out of the code, and build the documentation into site/
	@$(IN_VENV) .venv/bin/python docs/site/reference.py
	@$(IN_VENV) .venv/bin/python docs/site/build.py

# With more workers than cores, threads of BLAS and of OpenMP only wait for one another; and where
# no bytecode is kept, every process compiles all that it imports.
test: lint ## Check the code as lint does, then run the tests
	@$(IN_VENV) PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv/bin/pytest -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup ## Check style, types and the architecture's import rules
	@$(IN_VENV) .venv/bin/ruff check
	@$(IN_VENV) .venv/bin/ruff format --check
	@$(IN_VENV) .venv/bin/mypy -n 2
	@for part in course/part?_*; do MYPYPATH=$$(echo course/part?_*/solution | tr ' ' :) \
		.venv/bin/mypy $$part/solution || exit; done
	@$(IN_VENV) .venv/bin/lint-imports

format: setup ## Put the code into the project's style
	@$(IN_VENV) .venv/bin/ruff check --fix-only
	@$(IN_VENV) .venv/bin/ruff format

clean: ## Stop the embedded database and remove what the project has written; keep .venv
	@scripts/clean.sh

distclean: clean ## Do clean, then remove .venv and .tools too
	@rm -rf .venv .tools
