# The first target that needs it builds .venv from requirements.lock. Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
MODEL ?= digits-joint
VIDEOS ?= 256
TORCH := 2.13.0
BIN := .venv/bin
VENV := .venv/.complete

CHECK_PYTHON = $(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "error: stg-lab needs Python 3.11 or newer with venv, and '$(PYTHON)' is not that;" \
	"try: make PYTHON=python3.12" >&2; exit 1; }

.PHONY: help demo test fuzz campaign campaign-threads lab docs slides wheel train judge evidence bench lint format lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV) ## sample the embedded model with and without STG, into out/demo
	$(BIN)/stg-lab demo --out out/demo --overwrite

test: $(VENV) ## run every test this machine can run
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadgroup --durations=15

campaign-threads: $(VENV) ## try bad input, interrupts at every line, and three threads on one pipeline
	$(BIN)/python tests/campaign/bad_input.py
	$(BIN)/python tests/campaign/interrupts.py
	$(BIN)/python tests/campaign/threads.py

lab: $(VENV) course ## open a copy of the course in JupyterLab, to run and change as you like
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/course/README.md --LabApp.app_settings_dir=notebooks/.jupyterlab

# A later version of the notebooks does not touch the copy: rm -r course for a fresh one.
course:
	cp -R notebooks course

docs: $(VENV) ## build the documentation into out/docs; needs no network
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d out/docs-read -c docs . out/docs

slides: $(VENV) ## write every notebook as slides into out/slides, from what the notebooks hold
	$(BIN)/python docs/slides.py out/slides

wheel: $(VENV) ## build wheel and sdist into dist
	$(BIN)/python -m hatchling build

train: $(VENV) ## train an embedded model anew (MODEL=digits-joint)
	$(BIN)/python -m stg_lab.digits.train $(MODEL) --export data/models/$(MODEL)

judge: $(VENV) ## train the judge of the digits world anew, and calibrate it
	$(BIN)/python -m stg_lab.digits.train_judge
	$(BIN)/python -m stg_lab.digits.calibrate

# glibc hands large tensors back to the system after every operation; to keep them makes sampling a tenth to a fifth faster.
evidence: export MALLOC_MMAP_THRESHOLD_ = 2000000000
evidence: export MALLOC_TRIM_THRESHOLD_ = 8000000000
evidence: $(VENV) ## put the paper's claims to the test (CLAIMS="3 5" VIDEOS=32; KNOWN=1 from the scores that ship)
	$(BIN)/python -m stg_lab.evidence $(if $(CLAIMS),--claims $(CLAIMS)) $(if $(MODELS),--models $(MODELS)) --videos $(VIDEOS) $(if $(KNOWN),--known)

bench: $(VENV) ## measure speed and memory
	$(BIN)/python -m benchmarks.run

fuzz: $(VENV) ## damage recordings at random (TRIALS=5000 SEED=1): read right, or refused in one line
	PYTHONPATH=tests $(BIN)/python -m kit.fuzz $(or $(TRIALS),5000) $(or $(SEED),1)

campaign: $(VENV) ## kill recorders at random (TRIALS=1000 SEED=1): nothing that was whole is lost
	PYTHONPATH=tests $(BIN)/python -m kit.kills $(or $(TRIALS),1000) $(or $(SEED),1)

lint: $(VENV) ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV) ## format the code and mend what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## rewrite requirements.lock from a fresh environment
	@$(CHECK_PYTHON)
	set -e; new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
	$(PYTHON) -m venv "$$new"; \
	"$$new/bin/python" -m pip install torch==$(TORCH); \
	"$$new/bin/python" -m pip install -e '.[lab,docs,dev,cluster,metrics]'; \
	"$$new/bin/python" -m pip freeze --exclude-editable > "$$new/freeze"; \
	sed '/^#/!d' requirements.lock > "$$new/lock"; \
	sed -E -e '/^(nvidia|cuda|triton|pip=|setuptools=)/d' -e 's/\+[a-z0-9.]+$$//' "$$new/freeze" >> "$$new/lock"; \
	cp "$$new/lock" requirements.lock

clean: ## remove .venv and caches; out/ and runs/ stay
	rm -rf .venv dist .ruff_cache .mypy_cache .pytest_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV): requirements.lock pyproject.toml
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@
