# Each plain command of this project. All of them build with the same flags, so that the
# dependencies are compiled once: a static binary, the one that users run, is what is tested.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo build image check test bench bench-micro soak fuzz mutants lab-up lab-down
.PHONY: _begin _tools _format _lint _build _fast _slow _examples _summary

TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS := -C target-feature=+crt-static
export CARGO_INCREMENTAL := 0
PLACE := --locked --target $(TARGET)
FLAGS := --release $(PLACE)
# With the examples the dependencies have the features that tests give them: nothing is built twice.
BUILD := cargo build $(FLAGS) --bins --examples

OUT := $(or $(CARGO_TARGET_DIR),target)
CACHE := $(or $(KIST_CACHE),$(HOME)/.cache/kist-lab)
STEP := tests/tools/step.sh

# Tests that need nothing but the tree; the others have a step of their own in `make test`.
TESTS := $(patsubst tests/%/main.rs,%,$(sort $(wildcard tests/*/main.rs)))
FAST := $(filter spec tidy,$(TESTS))
SLOW := $(filter-out $(FAST),$(TESTS))

help: ## Lists these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: ## Two real clusters: a database, its backup, a disaster, its restore, the proof (root)
	@tests/tools/install.sh apt versitygw cluster
	@$(BUILD)
	@$(OUT)/$(TARGET)/release/examples/demo

build: ## Builds the static binary
	$(BUILD)
	@ls -l $(OUT)/$(TARGET)/release/kist

image: build ## Writes kist's container image, an OCI layout as a tar, without Docker
	@$(OUT)/$(TARGET)/release/examples/ship $(OUT)/$(TARGET)/release/kist $(OUT)/kist-image.tar

check: _begin _format _lint _fast _summary ## Format, lints and fast tests

test: _begin _tools _format _lint _build _fast _slow _examples _summary ## Everything, real cluster and stores included (root; installs what it needs)

bench: ## kist beside its peers: WHAT="mixed.cold s3", BENCH_SCALE=0.1, BENCH_ROUNDS=1; all of it takes long (root)
	@$(if $(KIST),,$(BUILD))
	@tests/tools/install.sh versitygw peers
	@python3 benches/compare/main.py $(WHAT)

bench-micro: ## Micro benches: MB/s of hash, seal, chunker, nodes, index
	cargo bench $(PLACE) --bench '*'

soak: ## Kills backups, prunes and checks on one bucket for SOAK_SECONDS (3600), then compares all (root)
	@tests/tools/install.sh apt stores
	@$(BUILD)
	@KIST_SOAK_SECONDS=$(or $(SOAK_SECONDS),3600) cargo test $(FLAGS) --test kill -- --nocapture

fuzz: ## Fuzzes each decoder for FUZZ_SECONDS (20); the first build takes some ten minutes
	@$(STEP) --begin
	@test -x $(CACHE)/cargo-fuzz/bin/cargo-fuzz || \
	    RUSTFLAGS= $(STEP) "cargo-fuzz, once" cargo install --locked --root $(CACHE)/cargo-fuzz cargo-fuzz
	@export PATH="$(CACHE)/cargo-fuzz/bin:$$PATH" RUSTFLAGS= RUSTC_BOOTSTRAP=1; \
	targets=$$(cargo fuzz list); \
	for target in $$targets; do \
	    mkdir -p $(CACHE)/corpus/$$target fuzz/corpus/$$target; \
	    $(STEP) "fuzz: $$target" cargo fuzz run --sanitizer none $$target \
	        $(CACHE)/corpus/$$target fuzz/corpus/$$target -- -max_total_time=$(or $(FUZZ_SECONDS),20) -verbosity=0 -print_final_stats=1; \
	done
	@$(STEP) --summary

mutants: ## Changes crypto and gc expression by expression, which some test has to notice: hours (WHAT="src/crypto/*.rs")
	@test -x $(CACHE)/cargo-mutants/bin/cargo-mutants || \
	    RUSTFLAGS= $(STEP) "cargo-mutants, once" cargo install --locked --root $(CACHE)/cargo-mutants cargo-mutants
	@set -f; tests/mutants/run.sh $(WHAT)

lab-up: build ## Leaves a real cluster and an S3 server running: make lab-up NAME=one (root)
	@$(OUT)/$(TARGET)/release/examples/lab up $(or $(NAME),$(error say which: NAME=…))

lab-down: build ## Takes it down again: make lab-down NAME=one
	@$(OUT)/$(TARGET)/release/examples/lab down $(or $(NAME),$(error say which: NAME=…))

# The steps.

_begin:
	@$(STEP) --begin

_tools:
	@$(STEP) "tools that the tests run" tests/tools/install.sh apt stores cluster reader

_format:
	@$(STEP) "format" cargo fmt --check

_lint:
	@$(STEP) "lints" cargo clippy --quiet $(FLAGS) --all-targets -- -D warnings

_build:
	@$(STEP) "build of everything" cargo test --quiet $(FLAGS) --no-run

_fast:
	@$(STEP) "fast tests" cargo test $(FLAGS) --lib --bins $(FAST:%=--test %)

_slow:
	@for name in $(SLOW); do $(STEP) "tests: $$name" cargo test $(FLAGS) --test $$name; done

_examples:
	@$(STEP) "examples in the documentation" cargo test $(FLAGS) --doc

_summary:
	@$(STEP) --summary
