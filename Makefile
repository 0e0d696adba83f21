# Every target installs what it needs; the machine needs only Python 3.11 to 3.13, git and make.
PYTHON ?= python3
UV     := $(or $(shell command -v uv),.uv/bin/uv)
BIN    := .venv/bin
# A crashed test process ends the run: pytest-xdist could replace it, but may then wait for ever (it assigns finished modules anew).
# Bytecode is kept whatever the environment says: the tests start many processes that import the same modules.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes pyproject.toml
# What runs in a container: no tests, and no Ray, as a cluster brings its own.
IMAGE  := $(foreach extra,dicom dicom-out excel hub int8 listen mlflow onnx page redis s3 serve,--extra $(extra)) --constraint requirements.lock
OSV    := https://api.osv.dev/v1/vulns/GHSA-462w-v97r-4m45

.PHONY: help setup demo up test lowest faults removals containers check audit docs docs-links bench fuzz gpu-trial lock clean
help:
	@echo "make setup   install everything into .venv"
	@echo "make demo    run the whole pipeline on synthetic images, in minutes"
	@echo "make up      start the Prefect server, its deployments, workers, the page and the endpoint; cxr down stops them"
	@echo "make test    run all tests except those of make faults"
	@echo "make lowest  run them with the oldest libraries that pyproject.toml allows, in .lowest (7 GB): make lowest TESTS=tests/dataset"
	@echo "make faults  run the tests that start and kill servers, workers, clusters and buckets"
	@echo "make removals  take each protection away and check that its test fails; half an hour or more"
	@echo "make containers  build the images, and train, score, kill, restart, upgrade, back up and restore in containers"
	@echo "make check   format, lint, types, import rules, audit"
	@echo "make audit   look requirements.lock up in OSV, a database of vulnerabilities, if it can be reached"
	@echo "make docs    build docs/ as HTML in docs/_build/html; warnings and broken internal links are errors"
	@echo "make docs-links  check the links to other sites; needs the network"
	@echo "make bench   measure speed against peers and limits: make bench DATA=chest_xray.zip"
	@echo "make gpu-trial  try the GPU of this machine for eight minutes: make gpu-trial DATA=chest_xray.zip"
	@echo "make fuzz    read damaged images, DICOM files, archives and packages, ten minutes each; what is found is in fuzzing/"
	@echo "make lock    compile requirements.lock, and the locks of the images in deployments/, from pyproject.toml"
	@echo "make clean   remove .venv, .lowest and .uv"

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11 to 3.13 is needed: make PYTHON=/path/to/python3.12 …"; exit 1; }
	$(UV) venv --quiet --allow-existing --python $(PYTHON) --no-python-downloads .venv
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.uv/bin/uv:
	@$(PYTHON) -m venv .uv || { echo "Python lacks venv; on Debian: apt install python3-venv"; exit 1; }
	.uv/bin/python -m pip install --quiet uv==0.13.9

demo up: setup
	$(BIN)/cxr $@
test: setup
	$(PYTEST) -m "not faults"
lowest: | $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) --no-python-downloads .lowest
	$(UV) pip install --quiet --python .lowest/bin/python --resolution lowest-direct \
		--requirement pyproject.toml --all-extras --group dev --editable .
	$(subst $(BIN),.lowest/bin,$(PYTEST)) -m "not faults" $(TESTS)
faults: setup
	$(PYTEST) --numprocesses=4 -m faults
removals: setup
	$(BIN)/python -m tests.removals
containers: setup
	$(BIN)/python -m tests.containers --upgrade-from f776b6e $(TRIAL)
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory audit
audit: setup
	@if $(BIN)/python -c "import urllib.request; urllib.request.urlopen('$(OSV)', timeout=10)" 2>/dev/null; then \
		$(BIN)/pip-audit --requirement requirements.lock --disable-pip --vulnerability-service osv --progress-spinner off; \
	else echo "Not audited: $(OSV) cannot be reached."; fi
docs: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
docs-links: setup
	$(BIN)/sphinx-build --quiet --builder linkcheck docs docs/_build/links
bench: setup
	$(UV) pip install --quiet --python $(BIN)/python --group bench
	for name in decoding near_duplicates frozen_trunk training scoring growth start_up; do \
		$(BIN)/python -m benchmarks.$$name --data $(DATA) || exit 1; done
fuzz: setup
	$(BIN)/python -m benchmarks.fuzzing
gpu-trial: setup
	$(BIN)/python -m benchmarks.gpu_trial --data $(DATA)
lock: | $(UV)
	$(COMPILE) --all-extras --group dev --output-file requirements.lock
	$(COMPILE) $(IMAGE) --output-file deployments/requirements-gpu.lock
	$(COMPILE) $(IMAGE) --output-file deployments/requirements-cpu.lock \
		--excludes deployments/cuda.txt --no-emit-package torch --no-emit-package torchvision

clean:
	rm -rf .venv .lowest .uv
