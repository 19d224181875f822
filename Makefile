# Every target sets itself up, from a bare Debian 12 or Ubuntu with Python 3.11 to 3.13 and make; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

python := .venv/bin/python
typed := $(wildcard api trainer client operator tests/support tests/cluster/imagetrain_cluster tests/chaos/imagetrain_chaos tests/conftest.py benchmarks examples)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## Make .venv with the locked packages and this checkout (2 min at first, then at once)
	@tools/venv.sh

.PHONY: versitygw
versitygw: venv ## Build the S3 server of the tests into the cache (1 min at first, then at once)
	@tools/go_tools.sh versitygw

.PHONY: cluster-tools
cluster-tools: venv ## Bring what the tests' Kubernetes cluster needs: packages, programs (10 min at first, then at once)
	@tools/cluster_tools.sh

.PHONY: cluster
cluster: cluster-tools ## Bring up a Kubernetes cluster of two nodes on this machine, as root; print its KUBECONFIG line
	@PYTHONPATH=tests/cluster $(python) -m imagetrain_cluster up

.PHONY: cluster-down
cluster-down: venv ## End the cluster of `make cluster`
	@PYTHONPATH=tests/cluster $(python) -m imagetrain_cluster down

.PHONY: demo
demo: venv ## Train, publish and predict on real digits from an S3 server, with two workers (2 min)
	@$(python) examples/demo.py

.PHONY: demo-fashion
demo-fashion: venv ## The same on the 70,000 images of Fashion-MNIST
	@folder=$$(tools/fashion_mnist.sh) && $(python) examples/demo_fashion.py "$$folder"

.PHONY: demo-cluster
demo-cluster: cluster ## Install the operator on that cluster and run the digits there, as root (1 min when the tools are built)
	@PYTHONPATH=tests/cluster $(python) examples/demo_cluster.py

.PHONY: test
test: venv versitygw cluster-tools ## Run the tests; ARGS="tests/api -k uris" runs some of them
	@echo "==> Running the tests"
	@$(python) -m pytest $(if $(ARGS),$(ARGS),--cov --cov-report=term)

.PHONY: chaos
chaos: venv versitygw cluster-tools ## Soak a run in faults of every kind, as root; ARGS="--seed 7 --minutes 120"
	@PYTHONPATH=tests/chaos:tests/support:tests/cluster $(python) -m imagetrain_chaos.soak $(ARGS)

.PHONY: chaos-cluster
chaos-cluster: venv cluster-tools ## Soak a job on a cluster of its own, as root; ARGS="--seed 7 --minutes 30"
	@PYTHONPATH=tests/chaos:tests/support:tests/cluster $(python) -m imagetrain_chaos.cluster_soak $(ARGS)

.PHONY: bench-recovery
bench-recovery: venv ## How fast a killed, frozen or blocked worker is noticed and the group trains on (45 min, idle machine)
	@$(python) benchmarks/recovery.py $(ARGS)

.PHONY: bench-goodput
bench-goodput: venv versitygw ## Compare recovery in place with a restart of the whole job (1 h, idle machine)
	@$(python) benchmarks/goodput.py $(ARGS)

.PHONY: bench-elastic
bench-elastic: venv ## Compare runs of 4 -> 2 -> 4 workers with undisturbed ones, sample by sample (15 min)
	@$(python) benchmarks/elastic.py $(ARGS)

.PHONY: bench-parity
bench-parity: venv ## Compare the weights of two workers with those of one (1 min)
	@$(python) benchmarks/parity.py

.PHONY: bench-resume
bench-resume: venv ## Compare a run stopped three times with a straight one, to the bit (1 min)
	@$(python) benchmarks/resume.py

.PHONY: bench-loop
bench-loop: venv ## Compare the training loop with a bare tf.function loop (2 min, idle machine)
	@$(python) benchmarks/loop_overhead.py

.PHONY: bench-scaling
bench-scaling: venv ## Compare two workers on two cores with one on one (5 min, idle machine)
	@$(python) benchmarks/scaling.py

.PHONY: bench-publisher
bench-publisher: venv versitygw ## Kill publishers at 50 random moments (5 min)
	@$(python) benchmarks/publisher_kill.py --server versitygw --kills 50

.PHONY: bench-checkpoints
bench-checkpoints: venv versitygw ## How long saves hold training up, and 100 kills within them (12 min, idle machine)
	@$(python) benchmarks/checkpoint_stall.py
	@$(python) benchmarks/checkpoint_kill.py --server versitygw --kills 100

.PHONY: bench-input
bench-input: venv versitygw ## How much an accelerator waits for a slow, failing S3 server (5 min)
	@$(python) benchmarks/input_stalls.py $(ARGS)

.PHONY: bench-reading
bench-reading: venv versitygw ## Compare reading from S3, a folder and the disk cache with what has less to do (1 min, idle machine)
	@$(python) benchmarks/reading.py $(ARGS)

.PHONY: bench-sampling
bench-sampling: venv ## How well the order by blocks mixes, and what seeking costs at ten million records (2 min)
	@$(python) benchmarks/sampling.py $(ARGS)

.PHONY: bench-decode
bench-decode: venv ## Compare decoding and augmentation with tf.image's own, at 224 pixels (3 min, idle machine)
	@$(python) benchmarks/decode.py $(ARGS)

.PHONY: bench-loaders
bench-loaders: venv versitygw ## Compare the reader with MosaicML streaming and WebDataset (8 min, idle machine; brings PyTorch at first)
	@[ .venv-peers/made -nt benchmarks/peers/requirements.txt ] || { $(python) -m venv --clear .venv-peers && \
		.venv-peers/bin/python -m pip install --quiet --requirement benchmarks/peers/requirements.txt && touch .venv-peers/made; }
	@$(python) benchmarks/loaders.py --peers-python .venv-peers/bin/python $(ARGS)

.PHONY: manifests
manifests: venv ## Write the CRD and the references of docs/ from the declarations in api/
	@$(python) -m imagetrain_operator.crd

.PHONY: bench-operator
bench-operator: venv cluster-tools ## Compare the operator with Kubeflow's at 1,000 jobs (8 min, idle machine, root); ARGS=--quick
	@$(python) benchmarks/operator_scale.py $(ARGS)

.PHONY: lint
lint: venv ## Check style, types and the order of the layers (30 s; 5 s when repeated)
	@echo "==> ruff: rules and format"
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@echo "==> mypy --strict"
	@$(python) -m mypy $(typed)
	@echo "==> import-linter"
	@.venv/bin/lint-imports --no-logo

.PHONY: format
format: venv ## Format the code and mend what ruff can mend
	@$(python) -m ruff check --fix-only --quiet
	@$(python) -m ruff format

.PHONY: lock
lock: venv ## Pin the dependencies of pyproject.toml anew; UPGRADE=1 takes the newest versions
	@tools/lock.sh
