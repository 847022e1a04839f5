# Everything here works on a machine that has python3, pip, git and make, and nothing else.
#   make quickstart   environment, installation, and the whole chain on embedded data
#   make test         environment and the tests
#   make test-fast    the tests that take less than half a second each: nearly all of them in a part of the time
#   make quality      formatting, lint and types
#   make audit        licences and known faults of all that is needed; asks the network where it can
#   make lowest       the tests with the oldest release of each dependency that pyproject.toml admits; needs uv
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# --without-pip and `pip --python` spare the user Debian's separate python3-venv package.
PIP := $(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python
STAMP := $(VENV)/.installed
LOWEST := .venv-lowest
AUDIT := .venv-audit
# Python in the tests may keep what it compiles, whatever the environment says: hundreds of processes read the sources.
unexport PYTHONDONTWRITEBYTECODE
# Without xdist's own order, by the number of tests in a file, which keeps the longest files for the end.
PYTEST := -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: quickstart test test-fast quality audit lowest clean
.DELETE_ON_ERROR:

$(STAMP): pyproject.toml
	rm -rf $(VENV)
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PIP) install --no-compile --progress-bar off -e '.[dev]'
	# pip would compile on one core. Packages bring templates that do not compile.
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null 2>&1 || true
	# opencv-python needs the system's libGL; where that is missing, the headless build has the same module.
	$(BIN)/python -c 'import cv2' 2>/dev/null || { $(PIP) uninstall -y opencv-python && $(PIP) install --no-deps opencv-python-headless; }
	$(BIN)/python -c 'import cv2'
	touch $@

quickstart: $(STAMP)
	$(BIN)/agssp quickstart --output runs/quickstart

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) -m "not slow"

quality: $(STAMP)
	$(BIN)/ruff format --check src scripts tests
	$(BIN)/ruff check src scripts tests
	$(BIN)/mypy

# pip-audit (Apache-2.0, by the Python Packaging Authority) needs packages of its own, so it gets an environment of its own.
# Without network the list of what it could not ask about is the result.
audit: $(STAMP)
	$(BIN)/python scripts/audit.py licences
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv --clear --without-pip $(AUDIT) && $(PYTHON) -m pip \
		--disable-pip-version-check --python $(AUDIT)/bin/python install --quiet pip-audit; } || true
	$(BIN)/python scripts/audit.py faults --pip-audit $(AUDIT)/bin/pip-audit

lowest:
	uv venv --quiet --clear --python 3.11 $(LOWEST)
	uv pip install --quiet --python $(LOWEST) --resolution lowest-direct -e '.[dev]'
	$(LOWEST)/bin/python -c 'import cv2' 2>/dev/null || { uv pip uninstall --python $(LOWEST) opencv-python && \
		uv pip install --python $(LOWEST) --no-deps opencv-python-headless; }
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python $(PYTEST)

clean:
	rm -rf $(VENV) $(LOWEST) $(AUDIT) runs .pytest_cache .ruff_cache .mypy_cache
