# Golden machine images: definition -> lock -> bake -> verify. `make` prints this help; the rest is `scripts/golden NAME`.
IMAGE ?= debian-13-ml
ROLE ?=
GOLDEN = scripts/golden
WAITS = $(if $(WAIT),--wait)
# A new lock is for a person to see before it is baked and published: in CI `make bake` makes none on the side. Tests do
# (scripts/test): they publish nothing, and committed locks outlive the files of their mirrors.
RELOCKS = $(if $(or $(RELOCK),$(if $(CI),,1)),--relock)
NAMED = $(if $(filter-out file,$(origin IMAGE)),$(IMAGE))

# A variable that nothing reads, such as `image=x`, would silently bake the default. Others may be set for the environment.
KNOWN = IMAGE ROLE WAIT RELOCK STALE STRICT EXPLAIN CHANGED FORCE BUILDER REGION BUILD DRY_RUN UPDATE DISK ACCOUNT ALL RECORD LONG
WORDS = $(foreach word,$(subst \ ,_,$(MAKEOVERRIDES)),$(firstword $(subst =, ,$(word))))
UNKNOWN = $(firstword $(filter-out $(KNOWN) CI GOLDEN_% AWS_%,$(WORDS)))
ifneq ($(UNKNOWN),)
$(error there is no variable $(UNKNOWN); known, in capitals: $(KNOWN))
endif
SWITCHES = WAIT RELOCK STALE STRICT EXPLAIN FORCE DRY_RUN UPDATE ACCOUNT ALL RECORD
OFF = $(firstword $(foreach name,$(SWITCHES),$(if $(filter 0 no off false,$($(name))),$(name))))
ifneq ($(OFF),)
$(error $(OFF) is a switch: give 1, or leave it out)
endif
ifeq ($(strip $(IMAGE)),)
$(error IMAGE is empty; known: $(basename $(notdir $(wildcard packer/images/*.yml))))
endif

.DEFAULT_GOAL := help
.PHONY: help setup check lock bake verify shell publish gpu-test promote rollback release status retire watch drift site molecule demo
.PHONY: emulator test-fast test clean

help: ## print this help
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n  IMAGE=%s, of:\n' '$(IMAGE)'
	@printf '    %s\n' $(basename $(notdir $(wildcard packer/images/*.yml)))
	@printf '  bench-: %s\n' '$(subst _,-,$(patsubst tests/bench/bench_%.py,%,$(sort $(wildcard tests/bench/bench_*.py))))' | fold -sw 79
	@printf '  all commands: $(GOLDEN) --help\n'

setup: ## install what this machine lacks (apt packages, Packer, .venv)
	@scripts/setup

check: setup ## check definitions and locks, resolve nothing (STRICT=1; EXPLAIN=1)
	@$(GOLDEN) check $(NAMED) $(if $(STRICT),--strict) $(if $(EXPLAIN),--explain)

lock: setup ## resolve IMAGE to exact files, compile its driver (EXPLAIN=1; STALE=1)
	@$(GOLDEN) lock $(if $(STALE),--stale $(NAMED),$(IMAGE)) $(WAITS) $(if $(EXPLAIN),--explain)

bake: setup ## bake IMAGE from its lock, boot, check, report (BUILDER=ec2)
	@$(GOLDEN) bake $(IMAGE) $(RELOCKS) $(WAITS) $(if $(CHANGED),--changed $(CHANGED)) $(if $(FORCE),--force) $(if $(BUILDER),--builder $(BUILDER)) $(if $(REGION),--region $(REGION))

verify: setup ## boot the baked disk of IMAGE again and check it
	@$(GOLDEN) verify $(IMAGE) $(WAITS)

shell: setup ## log in to the newest verified disk of IMAGE; nothing is kept
	@$(GOLDEN) shell $(IMAGE)

publish: setup ## take the newest verified build to EC2 (BUILD=id; DRY_RUN=1)
	@$(GOLDEN) publish $(IMAGE) $(WAITS) $(if $(BUILD),--build $(BUILD)) $(if $(DRY_RUN),--dry-run) \
	  || { code=$$?; [ $$code -eq 11 ] || exit $$code; } # 11: a candidate that is still to be tested or to stand

gpu-test: setup ## test the candidate on each GPU architecture (DRY_RUN=1)
	@$(GOLDEN) gpu-test $(IMAGE) $(if $(DRY_RUN),--dry-run)

promote: setup ## move `latest` to the tested candidate (DRY_RUN=1)
	@$(GOLDEN) promote $(IMAGE) $(if $(DRY_RUN),--dry-run)

rollback: setup ## take `latest` back to the build before (BUILD=id; DRY_RUN=1)
	@$(GOLDEN) rollback $(IMAGE) $(if $(BUILD),--to $(BUILD)) $(if $(REGION),--region $(REGION)) $(if $(DRY_RUN),--dry-run)

release: setup ## bake to promote, as far as each is due (DRY_RUN=1)
	@$(GOLDEN) release $(IMAGE) $(WAITS) $(if $(DRY_RUN),--dry-run) \
	  || { code=$$?; [ $$code -eq 11 ] || exit $$code; } # 11: a candidate that has to stand

status: setup ## who runs which build, where, at what cost a month
	@$(GOLDEN) status $(NAMED)

retire: setup ## take what nobody uses a step further (DRY_RUN=1)
	@$(GOLDEN) retire $(IMAGE) $(if $(DRY_RUN),--dry-run)

watch: setup ## what is newer than the locks and matters (UPDATE=1: lock)
	@$(GOLDEN) watch $(NAMED) $(if $(UPDATE),--update) $(if $(STRICT),--strict) $(WAITS) \
	  || { code=$$?; [ $$code -eq 10 ] || exit $$code; } # 10: something newer matters, which is what was asked

drift: setup ## what runs that is not as published (DISK=file: a disk)
	@$(GOLDEN) drift $(NAMED) $(if $(DISK),--disk $(DISK))

site: setup ## a page over all images in build/site (ACCOUNT=1: ask it)
	@$(GOLDEN) status --site $(if $(ACCOUNT),account,here)

demo: ## the life of a small image, against EC2 on this machine
	@scripts/setup emulator
	@$(GOLDEN) selftest --emulated

emulator: ## EC2 on this machine (moto, stricter); prints what to export
	@scripts/setup emulator
	@PYTHONPATH=scripts .venv/bin/python -m ec2_emulator

clean: ## free what builds hold, but newest verified ones (ALL=1: all)
	@$(GOLDEN) clean $(WAITS) $(if $(ALL),--all)

molecule: ## run all Molecule scenarios, or ROLE, in real containers
	@scripts/setup test
	@scripts/molecule $(ROLE)

test-fast: ## linters, unit and contract tests (CHANGED=1: a minute)
	@scripts/setup test
	@scripts/test $(if $(CHANGED),changed,fast)

test: ## linters, tests, Molecule, a full bake and boot (LONG=1)
	@scripts/setup test
	@scripts/test $(if $(LONG),long,all)

bench-%: ## measure something (frameworks: RECORD=1)
	@scripts/setup test
	@PYTHONPATH=scripts:tests .venv/bin/python tests/bench/bench_$(subst -,_,$*).py $(IMAGE) $(if $(RECORD),--record)
