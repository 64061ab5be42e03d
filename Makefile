# Two commands do all the set-up there is: `make run` and `make test`.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

##@ Use
.PHONY: run
run: .venv/installed ## Run the flights example: raw table to served model (about two minutes)
	$(BIN)/treadle run examples/flights/flights.yaml

.PHONY: serve
serve: .venv/installed ## Serve every champion over HTTP on port 3000
	$(BIN)/treadle serve

.PHONY: demo-loop
demo-loop: .venv/installed ## Replay months of flights: drift, retraining, a broken source, a rollback
	$(BIN)/python scripts/demo_loop.py

##@ Kubernetes
.PHONY: deploy
deploy: .venv/installed ## Bring all of Treadle up on a kind cluster (KFP=0: without Pipelines)
	PYTHONPATH=scripts $(BIN)/python -m kind_cluster deploy

.PHONY: status
status: .venv/installed ## Say what runs on the cluster, what doesn't and why
	PYTHONPATH=scripts $(BIN)/python -m kind_cluster status

.PHONY: undeploy
undeploy: .venv/installed ## Remove the cluster and all that is in it
	PYTHONPATH=scripts $(BIN)/python -m kind_cluster undeploy

.PHONY: airgap
airgap: ## Build the cluster's images from package registries alone (AIRGAP=1 make deploy does too)
	airgap/build

##@ Develop
.PHONY: test
test: .venv/installed ## Run every test that this machine can run
	$(BIN)/pytest -n logical --dist loadfile

.PHONY: e2e
e2e: .venv/installed ## Deploy on kind, and try a model's life and every fault there
	$(BIN)/pytest tests/e2e

.PHONY: e2e-loop
e2e-loop: .venv/installed ## Run the loop's demonstration, and look at what it left
	$(BIN)/pytest tests/e2e/test_demo_loop.py

.PHONY: lint
lint: .venv/installed ## Check style, and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

.PHONY: type
type: .venv/installed ## Check types
	$(BIN)/mypy

.PHONY: docs
docs: .venv/installed ## Build the documentation as a site, into build/documentation/site
	PYTHONPATH=scripts $(BIN)/python -m documentation

.PHONY: screenshots
screenshots: .venv/installed ## Take the documentation's pictures anew (needs Chromium)
	PYTHONPATH=tests $(BIN)/python scripts/screenshots.py

.PHONY: format
format: .venv/installed ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench-main
bench-main: .venv/installed ## Measure the main job on a fresh clone against its limits
	$(BIN)/python benchmarks/main_job.py

.PHONY: bench-registry
bench-registry: .venv/installed ## Measure analysis, and the registry at 10,000 models, beside their peers
	$(BIN)/python benchmarks/registry.py
	$(BIN)/python benchmarks/analysis.py

.PHONY: bench-serving
bench-serving: .venv/installed ## Measure the model server beside its peers
	$(BIN)/python benchmarks/serving.py $(ARGUMENTS)

.PHONY: bench-edge
bench-edge: .venv/installed ## Measure a device's folder: size on disk, memory, time
	$(BIN)/python benchmarks/edge.py $(ARGUMENTS)

.PHONY: bench-tables
bench-tables: .venv/installed ## Measure the handling of tables beside other tools
	$(BIN)/python benchmarks/tables.py $(ARGUMENTS)

.PHONY: bench-tuning
bench-tuning: .venv/installed ## Measure the search beside scikit-learn's and Optuna's
	$(BIN)/python benchmarks/tuning.py

.PHONY: bench-loop
bench-loop: .venv/installed ## Measure the loop: alarms, faults caught, the year's error, time
	$(BIN)/python benchmarks/loop.py $(ARGUMENTS)

.PHONY: bench-whole
bench-whole: .venv/installed ## Measure raw table to prediction, steps and growth beside other frames
	$(BIN)/python benchmarks/whole.py $(ARGUMENTS)

.PHONY: bench
bench: .venv/installed ## Run every benchmark, and show what each came to on one page
	$(BIN)/python benchmarks/all.py $(ARGUMENTS)

.PHONY: bench-scale
bench-scale: .venv/installed ## Simulate 100,000 models, fed with what was measured
	$(BIN)/python benchmarks/scale.py

.PHONY: figures
figures: .venv/installed ## Write the figures of the reference runs into the documents
	PYTHONPATH=scripts:benchmarks $(BIN)/python -m documentation.figures

.PHONY: release-check
release-check: .venv/installed ## Build sdist, wheel and inventory; try them in an empty environment
	scripts/release-check

.PHONY: lock
lock: .venv/installed ## Lock what pyproject.toml asks for, keeping the versions that fit
	scripts/lock

.PHONY: lock-peers
lock-peers: .venv/installed ## Lock the environments of the benchmarks' peers
	scripts/lock-peers

.PHONY: upgrade
upgrade: .venv/installed ## Lock the newest versions that fit together
	scripts/lock --upgrade

.PHONY: install
install: .venv/installed ## Install Treadle and what it needs into .venv

.venv/installed: requirements.lock scripts/install pyproject.toml
	PYTHON="$(PYTHON)" scripts/install

##@ Tidy
.PHONY: clean
clean: ## Remove what was installed and built; models stay in .treadle
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
