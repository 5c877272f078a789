# Golden machine images: definition -> lock -> bake -> verify. `make` prints this help.
IMAGE ?= debian-12-ml-gpu
ROLE ?=
GOLDEN = scripts/golden
WAITS = $(if $(WAIT),--wait)
PLANS = $(if $(DRY_RUN),--dry-run)
# A new lock is for a person to see before it is baked and published: in CI `make bake` makes none on the side. Tests do
# (scripts/test): they publish nothing, and committed locks outlive the files of their mirrors.
RELOCKS = $(if $(or $(RELOCK),$(if $(CI),,1)),--relock)

.DEFAULT_GOAL := help
.PHONY: help setup check lock fetch bake verify reproduce report shell wheels watch images propose molecule emulator demo test test-fast clean publish rollback retire status

help: ## print this help
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n  IMAGE=%s   images: %s\n' '$(IMAGE)' '$(basename $(notdir $(wildcard packer/images/*.yml)))'

setup: ## install what this machine lacks (apt packages, Packer, .venv)
	@scripts/setup

check: setup ## check definitions and committed locks, resolve nothing (STRICT=1: warnings are errors)
	@$(GOLDEN) check $(if $(STRICT),--strict)

lock: setup ## resolve IMAGE to exact files, its driver compiled on its kernel (EXPLAIN=1: why the lock chose what)
	@$(GOLDEN) lock $(IMAGE) $(WAITS) $(if $(EXPLAIN),--explain)

fetch: setup ## have every file of the lock here, so that a bake needs no network
	@$(GOLDEN) fetch $(IMAGE) $(WAITS)

bake: setup ## bake IMAGE from its lock, boot the disk, check it, write the report (BUILDER=ec2: on an instance)
	@$(GOLDEN) bake $(IMAGE) $(RELOCKS) $(WAITS) $(if $(CHANGED),--changed $(CHANGED)) $(if $(FORCE),--force) $(if $(BUILDER),--builder $(BUILDER)) $(if $(REGION),--region $(REGION))

verify: setup ## boot the baked disk of IMAGE again and check it
	@$(GOLDEN) verify $(IMAGE) $(WAITS)

reproduce: setup ## bake the lock of IMAGE twice from nothing and compare the disks byte for byte
	@$(GOLDEN) reproduce $(IMAGE) $(WAITS)

report: setup ## render the HTML report of the newest build of IMAGE
	@$(GOLDEN) report $(IMAGE)

wheels: setup ## build the lock's framework wheels that this machine lacks; why each is a wheel or a build
	@$(GOLDEN) wheels $(IMAGE) $(WAITS)

shell: setup ## boot the newest verified disk of IMAGE and log in (changes are thrown away)
	@$(GOLDEN) shell $(IMAGE)

publish: setup ## take the newest build of IMAGE to EC2, if it is verified (BUILD=id, DRY_RUN=1: only the plan)
	@$(GOLDEN) publish $(IMAGE) $(WAITS) $(if $(BUILD),--build $(BUILD)) $(PLANS)

rollback: setup ## take `latest` and the launch template of IMAGE back (TO=build, REGION=name, DRY_RUN=1)
	@$(GOLDEN) rollback $(IMAGE) $(if $(TO),--to $(TO)) $(if $(REGION),--region $(REGION)) $(PLANS)

retire: setup ## take what nobody uses of IMAGE one step further: deprecate, disable, deregister (DRY_RUN=1: only the plan)
	@$(GOLDEN) retire $(IMAGE) $(if $(REGION),--region $(REGION)) $(PLANS)

status: setup ## builds behind latest, candidate and template, who runs which, what each costs (IMAGE=name: only that)
	@$(GOLDEN) status $(if $(filter-out file,$(origin IMAGE)),$(IMAGE)) $(if $(REGION),--region $(REGION))

watch: setup ## ask all sources what is newer than the locks and matters (UPDATE=1: lock it; IMAGE=name: only that)
	@$(GOLDEN) watch $(if $(filter-out file,$(origin IMAGE)),$(IMAGE)) $(if $(UPDATE),--update) $(if $(STRICT),--strict) $(WAITS)

images: setup ## names of the images that have a lock, as JSON (CHANGED=commit: whose lock differs from there; PUBLISHED=1)
	@$(GOLDEN) images $(if $(CHANGED),--changed $(CHANGED)) $(if $(PUBLISHED),--published)

propose: setup ## push new locks as the branch golden/watch, by which GitLab opens a merge request
	@$(GOLDEN) propose $(PLANS)

molecule: ## run all Molecule scenarios (or ROLE=name) in real containers
	@scripts/setup test
	@scripts/molecule $(ROLE)

emulator: ## EC2 on this machine: moto under AWS's rules, on loopback; prints what to export
	@scripts/setup emulator
	@PYTHONPATH=scripts .venv/bin/python -m ec2_emulator

demo: ## the life of an image on this machine: bake, publish, roll back, retire (BUILDS=3: something goes)
	@scripts/setup emulator
	@scripts/demo

test: ## everything: linters, unit and contract tests, Molecule, one full bake and boot
	@scripts/setup test
	@scripts/test all

test-fast: ## linters, unit and contract tests only (6 minutes)
	@scripts/setup test
	@scripts/test fast

bench-%: ## measure: bench-bake (seconds a phase), bench-release (driver to disk), bench-delta (changed blocks), bench-mkosi (against it), bench-frameworks (gains of builds; RECORD=1 keeps them, CCACHE=1 times ccache), bench-upload (MB/s, PUTs, kills), bench-publish (calls); figures also as JSON in build/bench/
	@scripts/setup test
	@PYTHONPATH=scripts:tests .venv/bin/python tests/bench/bench_$*.py $(IMAGE) $(if $(RECORD),--record) $(if $(CCACHE),--ccache)

clean: ## free what builds and the demo hold (the newest verified build of each image stays; ALL=1: everything)
	@$(GOLDEN) clean $(WAITS) $(if $(ALL),--all)
