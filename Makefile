# Golden machine images: definition -> lock -> bake -> verify. `make` prints this help; the rest is `scripts/golden NAME`.
IMAGE ?= debian-13-ml
ROLE ?=
GOLDEN = scripts/golden
WAITS = $(if $(WAIT),--wait)
# A new lock is for a person to see before it is baked and published: in CI `make bake` makes none on the side. Tests do
# (scripts/test): they publish nothing, and committed locks outlive the files of their mirrors.
RELOCKS = $(if $(or $(RELOCK),$(if $(CI),,1)),--relock)
NAMED = $(if $(filter-out file,$(origin IMAGE)),$(IMAGE))

.DEFAULT_GOAL := help
.PHONY: help setup check lock bake verify shell publish gpu-test promote watch molecule demo emulator test-fast test clean

help: ## print this help
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n  IMAGE=%s, of:\n' '$(IMAGE)'
	@printf '    %s\n' $(basename $(notdir $(wildcard packer/images/*.yml)))
	@printf '  bench-: %s\n' '$(patsubst tests/bench/bench_%.py,%,$(sort $(wildcard tests/bench/bench_*.py)))'
	@printf '  all commands: $(GOLDEN) --help\n'

setup: ## install what this machine lacks (apt packages, Packer, .venv)
	@scripts/setup

check: setup ## check definitions and committed locks, resolve nothing (STRICT=1: warnings fail)
	@$(GOLDEN) check $(if $(STRICT),--strict)

lock: setup ## resolve IMAGE to exact files, its driver compiled (EXPLAIN=1: why which)
	@$(GOLDEN) lock $(IMAGE) $(WAITS) $(if $(EXPLAIN),--explain)

bake: setup ## bake IMAGE from its lock, boot, check, report (BUILDER=ec2: on an instance)
	@$(GOLDEN) bake $(IMAGE) $(RELOCKS) $(WAITS) $(if $(CHANGED),--changed $(CHANGED)) $(if $(FORCE),--force) $(if $(BUILDER),--builder $(BUILDER)) $(if $(REGION),--region $(REGION))

verify: setup ## boot the baked disk of IMAGE again and check it
	@$(GOLDEN) verify $(IMAGE) $(WAITS)

shell: setup ## boot the newest verified disk of IMAGE and log in; changes are thrown away
	@$(GOLDEN) shell $(IMAGE)

publish: setup ## take the newest build to EC2, if verified (BUILD=id; DRY_RUN=1: the plan)
	@$(GOLDEN) publish $(IMAGE) $(WAITS) $(if $(BUILD),--build $(BUILD)) $(if $(DRY_RUN),--dry-run)

gpu-test: setup ## test the candidate on a GPU of each architecture (DRY_RUN=1: the plan)
	@$(GOLDEN) gpu-test $(IMAGE) $(if $(DRY_RUN),--dry-run)

promote: setup ## move `latest` to the tested candidate (DRY_RUN=1: the plan)
	@$(GOLDEN) promote $(IMAGE) $(if $(DRY_RUN),--dry-run)

watch: setup ## what is newer than the locks and matters (UPDATE=1: lock it; IMAGE=: only that)
	@$(GOLDEN) watch $(NAMED) $(if $(UPDATE),--update) $(if $(STRICT),--strict) $(WAITS)

demo: ## an image's life: bake, publish, roll back, retire (BUILDS=3: something goes)
	@scripts/setup emulator
	@scripts/demo

emulator: ## EC2 on this machine, moto under AWS's rules; prints what to export
	@scripts/setup emulator
	@PYTHONPATH=scripts .venv/bin/python -m ec2_emulator

clean: ## free what builds and the demo hold, but newest verified builds (ALL=1: those, too)
	@$(GOLDEN) clean $(WAITS) $(if $(ALL),--all)

molecule: ## run all Molecule scenarios (or ROLE=name) in real containers
	@scripts/setup test
	@scripts/molecule $(ROLE)

test-fast: ## linters, unit and contract tests only (6 minutes)
	@scripts/setup test
	@scripts/test fast

test: ## everything: linters, tests, Molecule, one full bake and boot
	@scripts/setup test
	@scripts/test all

bench-%: ## measure something (frameworks: RECORD=1 keeps it, CCACHE=1 times ccache)
	@scripts/setup test
	@PYTHONPATH=scripts:tests .venv/bin/python tests/bench/bench_$*.py $(IMAGE) $(if $(RECORD),--record) $(if $(CCACHE),--ccache)
