# The commands of this project. Each sets up what it needs first (scripts/setup).
.PHONY: demo test check bench judge test-kernel clean
.DEFAULT_GOAL := demo
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

VENV := .venv/bin
LAB_PACKAGES := python3-venv iproute2 iputils-ping nftables dnsmasq-base busybox keepalived
KERNEL_PACKAGES := $(LAB_PACKAGES) qemu-system-x86 kmod

demo:  ## the article's cloud comes up, plays every scenario, and goes away again
	@scripts/setup $(LAB_PACKAGES)
	$(VENV)/trunkline lab run

test: check  ## everything: the quick part, then what needs root and network namespaces
	@scripts/setup $(LAB_PACKAGES)
	$(VENV)/pytest tests/scenarios/test_life.py  # whose one test wants no other lab up
	$(VENV)/pytest -n 2 --dist loadfile tests/contract tests/netns tests/scenarios --ignore tests/scenarios/test_life.py

check:  ## the quick part, without root: format, lint, types, imports, pure tests
	@scripts/setup python3-venv
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports
	$(VENV)/pytest -n auto --dist loadfile tests/unit tests/api

test-kernel:  ## the same scenarios on Debian's stock kernel, in an emulated machine
	@scripts/setup $(KERNEL_PACKAGES)
	scripts/test-kernel

bench:  ## what a port costs, beside the same work done by hand
	@scripts/setup $(LAB_PACKAGES)
	$(VENV)/python bench/bench.py
	$(VENV)/python bench/hosts.py
	$(VENV)/python bench/verify.py

judge:  ## the API beside a real Neutron's: the same random calls, the same answers
	@scripts/setup python3-venv
	$(VENV)/pytest tests/judge

clean:  ## removes what set-up and runs have made in this directory
	rm -rf .venv .cache build src/*.egg-info
