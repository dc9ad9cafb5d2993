# The two commands of the README are `make reconstruct` and `make test`; each sets everything up by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
DEPLOY := .venv-deploy
BIN := $(VENV)/bin
# Its formatter, linter and TypeScript check the page; nothing is downloaded and nothing of it is part of the page.
DENO := DENO_NO_UPDATE_CHECK=1 $(abspath $(BIN))/deno
SAMPLE := docs/sample
OUTPUT ?= output/reconstruction

.PHONY: help reconstruct tools test lint verify gpu-kit clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# MONAI Deploy has an environment of its own: where it is installed, every `import monai` loads Holoscan.
$(DEPLOY)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEPLOY)
	$(DEPLOY)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[deploy]"
	touch $@

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

reconstruct: $(VENV)/.ready ## reconstruct the sample patient's spine and compare it with the CT
	$(BIN)/python -m scripts reconstruct --ap $(SAMPLE)/ap.nii.gz --lat $(SAMPLE)/lat.nii.gz \
		--annotations $(SAMPLE)/annotations.json --truth $(SAMPLE)/labelmap.nii.gz --output $(OUTPUT)

test: $(VENV)/.ready $(DEPLOY)/.ready tools ## run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Tests use Debian's Chromium (the viewer), DCMTK (DICOM nodes) and dicom3tools (a validator of DICOM objects); where
# they cannot be installed, what needs them is skipped and says so.
tools:
	@for pair in chromium:chromium storescu:dcmtk dciodvfy:dicom3tools; do \
		command -v $${pair%%:*} >/dev/null || \
			(apt-get update -qq && apt-get install -y -qq --no-install-recommends $${pair#*:}) >/dev/null 2>&1 || \
			echo "$${pair#*:} cannot be installed here (apt-get install $${pair#*:}): what needs it is skipped"; \
	done

lint: $(VENV)/.ready ## style and types, of the viewer's page too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd scripts/viewer && $(DENO) fmt --check --quiet && $(DENO) lint --quiet && $(DENO) check --quiet static/*.js

verify: $(VENV)/.ready ## the checks that MONAI's model zoo makes of a bundle
	$(BIN)/python -m scripts verify

CASES ?= output/cases
KIT ?= output/gpu-kit
gpu-kit: $(VENV)/.ready ## pack what a bare machine with a GPU trains with (CASES=folders of online cases)
	$(BIN)/python -m scripts.release.gpu_kit --cases $(CASES) --output $(KIT)

clean: ## remove the virtual environment and all outputs
	rm -rf $(VENV) $(DEPLOY) output eval
