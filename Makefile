VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
# make setup TORCH=cpu: wheels without CUDA, of the versions in requirements.txt
CPU_WHEELS ?= https://download.pytorch.org/whl/cpu
TORCH_PINS := $(shell grep -E '^torch(vision)?==' requirements.txt)
ifneq ($(filter-out cpu,$(TORCH)),)
$(error TORCH=$(TORCH): expected TORCH=cpu, or nothing for the builds with CUDA)
endif
WARMUP := $(shell find pytorch-gradual-warmup-lr -name '*.py' -path '*/warmup_scheduler/*') pytorch-gradual-warmup-lr/pyproject.toml

.PHONY: help setup demo benchmark evidence ablation app attack test test-slow test-gpu test-extra lint

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s%s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## create .venv and install requirements.txt (takes a second if nothing changed; TORCH=cpu: without CUDA)

$(STAMP): requirements.txt $(WARMUP)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v < (3, 11) and f"{sys.executable} is Python {v[0]}.{v[1]}, but 3.11 or newer is needed: make setup PYTHON=python3.12")'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "Installing requirements.txt into $(VENV) (about $(if $(TORCH),1.5,5) GB the first time)"
ifeq ($(TORCH),cpu)
	@$(PIP) --index-url $(CPU_WHEELS) $(TORCH_PINS) || echo "Nothing from $(CPU_WHEELS): installing the builds with CUDA"
endif
	@$(PIP) -r requirements.txt
	@touch $@

demo: setup  ## add haze to photographs, train a small IRNeXt to remove it and score it (about three minutes on two cores)
	$(RUN) -m data.synthetic.demo --output datasets/demo
	$(RUN) restore.py --task dehazing --input datasets/demo/test/hazy --output results/demo/shipped --compare
	@echo "restored with the weights of this project: results/demo/shipped; now with a network that is trained here"
	$(RUN) train.py --config configs/demo.yaml --output runs/demo --resume auto
	$(RUN) test.py --config configs/demo.yaml --weights runs/demo/checkpoints/best.pt --output results/demo --save-images
	@echo "hazy | restored | target, side by side: results/demo/comparison.png"

benchmark: setup  ## train and score a small network on all five tasks, next to a classical method (twenty minutes on two cores)
	$(RUN) -m benchmarks.embedded --output results/benchmark --data datasets/benchmark
	@echo "table: results/benchmark/benchmark.md; input | classical | IRNeXt | original, side by side: results/benchmark/benchmark.jpg"

evidence: setup  ## score the published test sets in DATA=DIR: input, classical method and weights/ (docs/evidence.md)
	$(if $(DATA),,$(error DATA is missing: make evidence DATA=DIR, see docs/evidence.md))
	$(RUN) -m benchmarks.evidence --data $(DATA) --output docs/evidence --document docs/evidence.md

ablation: setup  ## train and score the paper's ablations at small scale (DATA=DIR JOBS=2; hours on two cores)
	$(if $(DATA),,$(error DATA is missing: make ablation DATA=DIR, see docs/evidence.md))
	$(RUN) -m benchmarks.ablation --data $(DATA) --output runs/ablation --jobs $(or $(JOBS),1) --document docs/evidence.md

test: setup  ## run the tests
	$(RUN) -m ruff check --quiet .
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto

test-slow: setup  ## run the tests marked slow, which train the demo
	$(RUN) -m pytest -m slow

attack: setup  ## attack scripts and page with hostile input, kills and full disks (ten minutes; SEED=1 ONLY="images kills")
	OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(RUN) -m attack --seed $(or $(SEED),0) $(if $(ONLY),--only $(ONLY))

test-gpu: setup  ## run the tests that need a CUDA GPU
	$(RUN) -m pytest -m gpu

lint: setup  ## check style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

EXTRA := $(VENV)/.installed-extra

app: $(EXTRA)  ## restore images in the browser, on this machine only (WEIGHTS="files or folders" for weights of your own)
	$(RUN) app.py $(if $(WEIGHTS),--weights $(WEIGHTS))

test-extra: $(EXTRA)  ## run the tests of the web app (in Debian's chromium, if installed), of the ONNX export and of HEIC images
	$(RUN) -m pytest -m extra

$(EXTRA): $(STAMP) requirements-extra.txt
	@$(PIP) -r requirements-extra.txt
	@touch $@
