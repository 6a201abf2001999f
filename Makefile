# make demo | install | test | test-all | test-lowest | coverage | chaos | lint | docs | audit | clean
# These need make and Python 3.11 or later. Everything else is installed into this folder.

PYTHON ?= $(shell for python in python3.12 python3.11 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
UV ?= $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .uv/bin/uv)
INSTALLED := .venv/.installed
LOWEST := .lowest/.installed

# Downloads are kept in the user's cache, or in this folder if there is no writable home.
ifeq ($(shell test -n "$$XDG_CACHE_HOME" || { test -d "$$HOME" && test -w "$$HOME"; } && echo yes),)
export XDG_CACHE_HOME := $(CURDIR)/.uv/cache
endif

# As pip does: trust the certificates of the machine if it has some (a company's proxy), otherwise those of uv.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),true,false)

NEED_PYTHON = @test -n "$(PYTHON)" || { \
	echo "No Python 3.11 or later on the PATH: install one, or name it: make PYTHON=/path/to/python3" >&2; exit 2; }

.PHONY: demo install test test-all test-lowest coverage chaos lint docs audit clean

demo: $(INSTALLED)
	.venv/bin/tskd-tune sweep digits

install: $(INSTALLED)

# The processes share the test files. With PROCESSES=0 pytest runs all tests in its own process.
PROCESSES := 2
test: $(INSTALLED)
	.venv/bin/pytest -m "not slow" -n $(PROCESSES) --dist loadfile

test-all: $(INSTALLED)
	.venv/bin/pytest

# The fast tests that meet the most libraries, with the lowest versions that pyproject.toml allows.
# All of them: make test-lowest MEETING=. Parity tests need torchdistill, which needs later versions.
MEETING := callbacks cli clusters experiment networks records reports storage sweeps tasks test_local.py
test-lowest: $(LOWEST)
	.lowest/bin/pytest -m "not slow" --ignore-glob="*/test_parity_*.py" $(MEETING:%=tests/%)

# The fast tests, and which lines they run. Fails below the floor in pyproject.toml.
coverage: $(INSTALLED)
	.venv/bin/pytest -m "not slow" --cov --cov-report=term

# A sweep through ten storms of kills, compared with the calm sweep (docs/reliability.md); about half an hour.
chaos: $(INSTALLED)
	PYTHONPATH=tests .venv/bin/python -m chaos

lint: $(INSTALLED)
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

# A warning is an error, so a broken link or reference fails.
docs: $(INSTALLED)
	.venv/bin/sphinx-build --quiet --fail-on-warning --keep-going -d docs/_build/doctrees docs docs/_build/html
	@echo "The site is docs/_build/html/index.html"

# Looks the installed packages up in the database of known holes. Where no network leads there, nothing is looked up, and
# the last line says so; with AUDIT=required this is an error.
audit: $(INSTALLED)
	-$(UV) venv --quiet --allow-existing --python "$(PYTHON)" .audit
	-$(UV) pip install --quiet --python .audit "pip-audit>=2.9"
	.venv/bin/python .ci/audit .audit/bin/pip-audit "$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" $(AUDIT)

clean:
	rm -rf docs/_build .coverage .venv .lowest .audit .uv .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml | $(UV)
	$(NEED_PYTHON)
	@echo "Installing tskd-tune into .venv, with PyTorch and Ray: about 6 GB unpacked, minutes the first time."
	$(UV) venv --allow-existing --python "$(PYTHON)" .venv
	$(UV) pip install --python .venv --group dev --editable .
	@touch $@

$(LOWEST): pyproject.toml | $(UV)
	$(NEED_PYTHON)
	@echo "Installing the lowest versions that tskd-tune allows into .lowest."
	$(UV) venv --allow-existing --python "$(PYTHON)" .lowest
	$(UV) pip install --python .lowest --resolution lowest-direct --group test --group services --editable .
	@touch $@

.uv/bin/uv:
	$(NEED_PYTHON)
	@echo "Installing uv into .uv; it installs the rest."
	"$(PYTHON)" -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check "uv>=0.8"
