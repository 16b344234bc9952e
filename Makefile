# `make run` and `make test` are all a new machine needs, beside Python 3.11, make and git.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# The plain TensorFlow wheel has no CUDA libraries: where an NVIDIA driver is found, the GPU lock is installed instead.
HAS_DRIVER := $(or $(wildcard /proc/driver/nvidia/version /usr/lib/wsl/lib/libnvidia-ml.so.1),$(shell command -v nvidia-smi))
LOCK := $(if $(HAS_DRIVER),requirements-gpu.txt,requirements.txt)
UV_VERSION := 0.13.9
# processes that the tests run in
WORKERS ?= 2
# where the tests' files lie: in memory if a GB is free there, which spares thousands of waits for a disk
IN_MEMORY := $(shell [ -w /dev/shm ] && df -Pk /dev/shm | awk 'NR == 2 && $$4 > 1000000 { print "/dev/shm" }')
TESTS_TMP ?= $(if $(shell grep -s ' /dev/shm .*noexec' /proc/mounts),,$(IN_MEMORY))
# PyPI's build for Linux brings 2.8 GB of CUDA; macOS has one build
TORCH ?= torch==2.13.0$(if $(filter Linux,$(shell uname)),+cpu)
HUB ?= keras-hub==0.32.0

.PHONY: run install test test-torch test-hub measure-gpu test-slow fuzz chaos mutants lint bench claims external same-answers lock architecture pretrained clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: $(VENV)/ok-$(LOCK) ## measure a small grid here, learn, predict and plan (FRESH=1 starts over, DEVICE=cpu)
	$(BIN)/epochcast demo $(if $(FRESH),--fresh) $(if $(DEVICE),--device $(DEVICE))

install: $(VENV)/ok-$(LOCK) ## the environment in .venv; every target makes it where it needs it

test: $(VENV)/ok-$(LOCK) ## the default tests: no GPU, no network (WORKERS=2 processes, TESTS_TMP=folder)
	PYTHONDONTWRITEBYTECODE= $(if $(TESTS_TMP),TMPDIR=$(TESTS_TMP)) \
		$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

test-torch: ## that KERAS_BACKEND=torch measures, in .venv-torch (TORCH='torch==2.13.0+cpu', where pip finds it)
	@tests/support/torch_tests.sh $(PYTHON) $(VENV)-torch '$(TORCH)'

test-hub: $(VENV)/ok-$(LOCK) ## how backbones of keras-hub are read, in .venv-hub on top of .venv (HUB='keras-hub==0.32.0')
	$(BIN)/python -m venv $(VENV)-hub
	$(BIN)/python -c 'import keras, pathlib; print(pathlib.Path(keras.__file__).parents[1])' 2>/dev/null \
		>"$$(echo $(VENV)-hub/lib/python*/site-packages)/lock.pth"
	$(VENV)-hub/bin/pip install -q --disable-pip-version-check '$(HUB)'
	$(VENV)-hub/bin/python -m pytest -q -m slow tests/epochcast/keras_layers/test_hub_backbones.py

measure-gpu: $(VENV)/ok-$(LOCK) ## pipelines, precisions, energy and roofline on this box's GPU (OUT=folder BUDGET=2h; resumes)
	$(BIN)/python benchmarks/measure_gpu.py --out $(or $(OUT),results/gpu) $(if $(BUDGET),--budget $(BUDGET)) $(FLAGS)

test-slow: $(VENV)/ok-$(LOCK) ## minutes of real training
	$(BIN)/python -m pytest -q -m slow
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q tests/epochcast/live/forecast

fuzz: $(VENV)/ok-$(LOCK) ## odd files, flags and child events by the thousand (SEED=0 N=20400 LIMIT_SEC=900 KIND=runs OUT=folder)
	$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) $(if $(N),--n $(N)) \
		$(if $(LIMIT_SEC),--limit_sec $(LIMIT_SEC)) $(if $(KIND),--kind $(KIND)) $(if $(OUT),--out $(OUT))

SEED ?= 0
KILLS ?= 400
chaos: $(VENV)/ok-$(LOCK) ## kill writers, fill disks, fail calls: nothing may be lost (SEED=0 KILLS=400 KIND=writers NUMBER=17)
	$(BIN)/python -m tests.chaos --seed $(SEED) --kills $(KILLS) $(if $(KIND),--kind $(KIND)) $(if $(NUMBER),--number $(NUMBER))

MUTMUT ?= mutmut==3.8.1
MOST ?= 150
mutants: ## change the core line by line and count what its tests notice, in .venv-mutants (SEED=0 MOST=150 FILE=knapsack)
	@tests/support/mutants.sh $(PYTHON) $(VENV)-mutants '$(MUTMUT)' --seed $(SEED) --most $(MOST) $(if $(FILE),--file '$(FILE)')

lint: $(VENV)/ok-$(LOCK) ## format, rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/ok-$(LOCK) ## speed, layers, rooflines: figures beside what they are compared with
	$(BIN)/python benchmarks/bench_cold_start.py
	$(BIN)/python benchmarks/bench_append.py
	$(BIN)/python benchmarks/bench_power.py
	$(BIN)/python benchmarks/bench_pipelines.py
	$(BIN)/python benchmarks/bench_compile_cache.py
	$(BIN)/python benchmarks/estimates/bench_memory.py
	$(BIN)/python benchmarks/bench_knapsack.py
	$(BIN)/python benchmarks/estimates/bench_layers.py
	$(BIN)/python benchmarks/estimates/bench_roofline.py
	$(BIN)/python benchmarks/bench_stalls.py
	$(BIN)/python benchmarks/estimates/bench_footprint.py
	$(BIN)/python benchmarks/mlperf/bench_energy.py
	$(BIN)/python benchmarks/estimates/bench_estimate.py
	$(BIN)/python benchmarks/estimates/bench_live.py
	$(BIN)/python benchmarks/estimates/bench_fit_memory.py
	$(BIN)/python benchmarks/estimates/bench_tune.py
	$(BIN)/python benchmarks/mlperf/bench_extract.py

claims: $(VENV)/ok-$(LOCK) ## every figure claimed of the time model, with its target and spread
	$(BIN)/python benchmarks/claims.py

external: $(VENV)/ok-$(LOCK) ## laws of networks, ratios and board power, judged on published rows (FIT=1 writes numbers, FIGURES=1 draws)
	$(BIN)/python benchmarks/external/judge.py $(if $(FIT),--fit) $(if $(FIGURES),--figures docs/figures)
	$(BIN)/python benchmarks/external/ratio/judge.py $(if $(FIT),--fit)
	$(BIN)/python benchmarks/external/power_judge.py

architecture: $(VENV)/ok-$(LOCK) ## draw docs/architecture.md again from the imports
	$(BIN)/python -m tests.support.draw_architecture

same-answers: $(VENV)/ok-$(LOCK) ## prove that this tree answers as an older one: BEFORE=commit (OUT=folder WORDS=1)
	$(BIN)/python benchmarks/same_answers.py --before $(BEFORE) $(if $(OUT),--out $(OUT)) $(if $(WORDS),--words)

pretrained: $(VENV)/ok-$(LOCK) ## train the shipped model again from the reference measurements
	$(BIN)/python benchmarks/make_pretrained.py

lock: ## write both locks again (needs the network)
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install -q uv==$(UV_VERSION)
	$(VENV)-lock/bin/uv pip compile -q pyproject.toml --group dev --extra tensorflow --universal --python-version 3.11 \
		--generate-hashes --custom-compile-command 'make lock' -o requirements.txt
	$(VENV)-lock/bin/uv pip compile -q pyproject.toml --group dev --extra gpu --universal --python-version 3.11 \
		--generate-hashes --custom-compile-command 'make lock' -o requirements-gpu.txt
	rm -rf $(VENV)-lock

clean: ## remove the virtual environment and caches; measurements stay
	rm -rf $(VENV) $(VENV)-torch $(VENV)-mutants $(VENV)-hub mutants .mypy_cache .pytest_cache .ruff_cache

$(VENV)/ok-$(LOCK): $(LOCK) pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 to 3.13 and say make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "installing $(LOCK) into $(VENV) ($(if $(HAS_DRIVER),3.4 GB to download: an NVIDIA driver was found,0.6 GB to download))"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check --no-compile --require-hashes -r $(LOCK)
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# this compiles what is imported; pip would compile all of TensorFlow and JAX, which takes longer
	@PYTHONDONTWRITEBYTECODE= KERAS_BACKEND=tensorflow $(BIN)/python -c 'import keras, jax' 2>/dev/null || true
	@rm -f $(VENV)/ok-*
	@touch $@
