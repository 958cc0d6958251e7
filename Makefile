# Everything a reader needs: `make book` and `make test`. `make help` says what they do and cost.
PYTHON ?= python3
TIER ?= laptop
CHAPTER ?=
RUN := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help book test references clean

help:
	@echo 'make book                    run every chapter at the laptop tier and build the site: on two cores'
	@echo '                             about 24 minutes the first time, one where nothing changed'
	@echo 'make book TIER=smoke         the four-minute look; tiers: smoke, laptop, gpu, paper'
	@echo 'make book CHAPTER=grokking   run one chapter and build the site from what is there'
	@echo 'make test                    every check: ruff, mypy, tests, doctests, chapters at the smoke tier;'
	@echo '                             about 7 minutes'
	@echo 'make references              run the chapters at the smoke tier again for tests/references'
	@echo 'make clean                   remove the site and the executed notebooks; trained runs stay'
	@echo
	@echo 'The first of them installs into .venv (about 3 minutes); nothing after that needs a network, but for the'
	@echo 'tiers gpu and paper: they download published datasets once, or read those in a folder that SPECDYN_DATA names.'
	@echo 'Needs Python 3.11 to 3.13 (PYTHON=... names another than python3), make and pip.'
	@echo 'The site: _build/html/index.html   notebooks: _build/notebooks   claims: _build/claims.json'

# Installed again only when a dependency file has changed.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed and $(PYTHON) is %d.%d. Name another: make PYTHON=python3.12 ..." % v)'
	@echo 'Installing into .venv: about 3 minutes the first time.'
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

book: .venv/installed
	$(RUN) -m tools book --tier '$(TIER)' $(if $(CHAPTER),--chapter '$(CHAPTER)')

test: .venv/installed
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m pytest

references: .venv/installed
	$(RUN) -m tools references $(if $(CHAPTER),--chapter '$(CHAPTER)')

clean:
	rm -rf _build/html _build/site _build/stage _build/notebooks _build/claims.json
