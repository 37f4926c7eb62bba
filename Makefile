# Every command a developer or user needs, a line each: `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TOOLS     := $(or $(ETCDGUARDIAN_TOOLS),$(HOME)/.cache/etcdguardian/tools)
IMG       ?= etcdguardian:dev
TAG       := $(lastword $(subst :, ,$(IMG)))
NAMESPACE ?= etcdguardian
CONFIG    ?= guardian.yaml
OUT       ?= target/etcdguardian-image.tar
SIZES     ?= 100M
SIZE      ?= 1G
SECONDS   ?= 4
EXECUTED  ?= notebooks
# ETCDGUARDIAN=FILE is taken where it is set, and none is built; BUILD_PROFILE=dev builds and measures an unoptimised one.
BINARY    := $(or $(ETCDGUARDIAN),target/release/etcdguardian)
BUILT     := $(if $(ETCDGUARDIAN),,build)
PROFILE   := $(if $(BUILD_PROFILE),--profile $(BUILD_PROFILE))
export ETCDGUARDIAN_TOOLS := $(TOOLS)
export PATH := $(TOOLS)/bin:$(PATH)

.PHONY: help demo test build operator run tools notebooks lint fmt bench bench-recorder bench-schedule bench-pipeline e2e fuzz manifests generate reference pictures install uninstall deploy undeploy docker-build image footprint clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a real etcd backed up, a failure alerted, a restore proved; under five minutes once the tools are there
	demo/demo.sh

pictures: ## the screenshots of the documentation, docs/images, from a run of the demo
	tests/tools/get-tools.sh chromium notebooks
	DEMO_PICTURES=docs/images demo/demo.sh
	$(TOOLS)/notebooks/bin/python demo/shrink.py docs/images/*.png

test: tools ## every test, against real servers
	RUST_TEST_THREADS=$$((2 * $$(nproc))) cargo test --locked

build: ## the optimised binary, target/release/etcdguardian
	cargo build --locked $(or $(PROFILE),--release)

operator: $(BUILT) ## the controllers, in the cluster of the current context: make operator CONFIG=guardian.yaml
	$(BINARY) operator --config $(CONFIG)

run: $(BUILT) ## the whole loop without Kubernetes: make run CONFIG=guardian.yaml
	$(BINARY) run --config $(CONFIG)

tools: ## the servers and tools that the tests use, into ~/.cache/etcdguardian/tools; only what is missing
	tests/tools/get-tools.sh

notebooks: $(BUILT) ## executes the notebooks and keeps their outputs; ETCDGUARDIAN_TRACES=FOLDER for your own traces
	tests/tools/get-tools.sh notebooks
	ETCDGUARDIAN=$(abspath $(BINARY)) $(TOOLS)/notebooks/bin/python notebooks/run.py --out $(EXECUTED) $(NOTEBOOKS)

lint: ## format, clippy, banned crates and licences
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	tests/tools/get-tools.sh system cargo-deny
	cargo-deny check bans licenses sources

fmt: ## format the code
	cargo fmt

generate: ## the CustomResourceDefinitions from the Rust types: crds/ and the chart's copy
	cargo build --locked
	crds/generate.sh

reference: ## the pages of docs/reference that are generated from the code
	GENERATE=1 cargo test --locked --test it reference::

manifests: generate ## the same as generate: all manifests that are generated are the CRDs

install: ## the CustomResourceDefinitions, into the cluster of the current context
	kubectl apply --server-side -f crds/

uninstall: ## takes the CustomResourceDefinitions away, and every resource of theirs with them
	kubectl delete -f crds/

deploy: ## the chart, into the cluster of the current context: make deploy IMG=registry.example.com/etcdguardian:1.0
	helm upgrade --install etcdguardian charts/etcdguardian --namespace $(NAMESPACE) --create-namespace \
	  --set-string image.repository=$(patsubst %:$(TAG),%,$(IMG)) --set-string image.tag=$(TAG)

undeploy: ## takes the chart away; CustomResourceDefinitions and backups stay
	helm uninstall etcdguardian --namespace $(NAMESPACE)

docker-build: ## the container image: make docker-build IMG=registry.example.com/etcdguardian:1.0
	docker build -t $(IMG) .

image: ## the same as an archive, made without a container engine: make image IMG=registry.example.com/etcdguardian:1.0 OUT=image.tar
	$(if $(ETCDGUARDIAN),,cargo build --locked --profile dist)
	tools/image.sh $(OUT) $(IMG) $(or $(ETCDGUARDIAN),target/dist/etcdguardian)

footprint: $(BUILT) ## what the idle operator takes with 1,000 schedules loaded: memory, and share of a core
	tests/tools/get-tools.sh etcd36 k8s
	tests/e2e/footprint.sh $(BINARY)

bench: ## etcdguardian beside etcd's own tools, in minutes: make bench SIZES=100M,1G
	tests/tools/get-tools.sh system etcd37 bbolt
	BENCH_SIZES=$(SIZES) cargo bench --locked $(PROFILE) --bench peers

bench-recorder: ## the recorder under 10,000 writes a second of a real etcd, and the merge of a million events; ETCDBRCTL=FILE for a peer's
	tests/tools/get-tools.sh system etcd35 etcd36
	cargo bench --locked $(PROFILE) --bench recorder

bench-schedule: ## what a decision, a daily fit and a simulation of eight weeks cost
	cargo bench --locked $(PROFILE) --bench schedule

bench-pipeline: ## a backup of a real etcd to a real S3 server and back, beside its stages alone: make bench-pipeline SIZE=1G
	tests/tools/get-tools.sh system etcd36 versitygw
	BENCH_SIZE=$(SIZE) cargo bench --locked $(PROFILE) --bench pipeline

e2e: ## end to end on a real one-node cluster, made and removed here: installed by helm, backed up, destroyed, restored; needs root
	tests/tools/get-tools.sh e2e
	cargo test --locked --no-run
	tests/e2e/run.sh

fuzz: ## libFuzzer over each parser of outside bytes, some seconds each: make fuzz SECONDS=600
	fuzz/run.sh $(SECONDS)

clean: ## what was built here; tools and caches stay
	cargo clean
