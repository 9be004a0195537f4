# Doors for a newcomer; the work is in CMakeLists.txt and scripts/.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test build dependencies lint asan asan-corpora tsan fuzz docs clean

FUZZ_SECONDS ?= 60
RETORT := build/release/bin/retort

# The whole loop on a real teacher: pull, collect, curate, distil, compare, export. Resumable.
demo: dependencies
	cmake --preset release
	cmake --build --preset release --target retort
	$(RETORT) run recipes/demo.toml

# Everything: unit, property, golden, fuzz corpora, end to end. Without the official OpenAI client (no package index
# within reach) the one test that needs it is skipped.
test: dependencies
	cmake --preset release
	cmake --build --preset release
	scripts/prepare-e2e-python.sh build/e2e-python || echo "no OpenAI client: its test will be skipped"
	ctest --preset release

build: dependencies
	cmake --preset release
	cmake --build --preset release

dependencies:
	scripts/install-dependencies.sh

lint: dependencies
	scripts/install-dependencies.sh lint
	cmake --preset debug
	scripts/lint.sh build/debug

# Unit tests and corpora under AddressSanitizer with UBSan, and under ThreadSanitizer.
asan tsan: dependencies
	cmake --preset $@
	cmake --build --preset $@
	ctest --preset $@ -R '^(unit|fuzz)'

# Of that the part that reads what others wrote: every parser over its corpus, damaged in many ways.
asan-corpora: dependencies
	cmake --preset asan
	cmake --build --preset asan --target fuzz_targets
	ctest --preset asan -R '^fuzz'

fuzz: dependencies
	scripts/install-dependencies.sh fuzz
	cmake --preset fuzz
	cmake --build --preset fuzz
	scripts/fuzz.sh build/fuzz $(FUZZ_SECONDS)

# The command pages in docs/commands/ are the program's own --help.
docs: build
	scripts/generate-command-docs.sh $(RETORT)

clean:
	rm -rf build/release build/debug build/asan build/tsan build/fuzz
