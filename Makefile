# Two commands: `make demo` runs the main job, `make test` every test. Both set up .venv once; Python >= 3.11 is all they need.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
INPUTS := setup.cfg pyproject.toml requirements.txt constraints.txt

# What is worth running on one accelerator, for which .venv needs a JAX of its own: pip install 'jax[cuda13]' or 'jax[tpu]'.
ON_DEVICE := $(addprefix tests/federation/test_, known_sizes.py strategies.py rounds.py any_linear_loss.py evaluate.py)
DEVICE_PROCESSES ?= 4

.PHONY: demo test test-device lint clean

demo: .venv/installed
	$(BIN)/python -m experiments.run --config=experiments/configs/digits.py --workdir=runs/demo

test: .venv/tested lint
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

test-device: .venv/tested
	XLA_PYTHON_CLIENT_PREALLOCATE=false $(BIN)/python -m pytest -p no:benchmark --numprocesses=$(DEVICE_PROCESSES) $(ON_DEVICE) tests/clip/test_encoding.py

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/installed: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.11" % sys.version_info[:2])'
	@echo "setting up .venv (once, a minute or two)"
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/tested: .venv/installed
	$(PIP) --editable '.[test]'
	@touch $@

clean:
	rm -rf .venv runs
