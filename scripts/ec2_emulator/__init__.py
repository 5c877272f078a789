"""An emulator of EC2, EBS, SSM and Auto Scaling: moto's server with rules that AWS has and moto
lacks.

`python -m ec2_emulator` (from `scripts/`, or `make emulator`) serves on loopback and prints what to
export; `--port N`, `--backdate-days N`. It ends with the process: nothing is stored.

* `server`: the application. It logs each call, authorizes it (`authorization`, `iam`) and hands it
  to moto, whose handlers and models `moto_overrides` has replaced. `state` holds what moto has no
  place for.
* `goldenami/aws/contract.yml`: what we take AWS to do, and the pages that say so. A function that
  keeps a row has its name and `@rule`. The probes of `goldenami_fleet.selftest` ask for what a
  call can show; what else a rule changes, the tests of commands meet. `seeds`: what AWS might do
  instead, by the setting `broken`.
* `witness`: botocore's models allow each answer, or it is an `EmulatorDefect`.
* `answers`: answers that a test states for what commands read and none makes (bills, reservations,
  fleets).
* The control API, for tests: `POST /_emulator/reset`, `PATCH /_emulator/settings`
  (`state.EmulatorSettings`: waits, page sizes, IAM denials, other accounts), `GET
  /_emulator/calls`, and by POST `defects` (takes what `witness` found), `damage` (a bit of a stored
  block) and `write` (bytes of an instance's root volume).
* Faults: the setting `late` is a list of `late_rules.LateRule` (a mode for some calls of some
  regions, by seed), which `lateness` applies.

It is not AWS: no instance runs, no quota counts, no policy document is evaluated (settings allow
and deny by action), and services that this project does not call are moto's. Tests against it prove
which calls this project makes and how it handles refusals, not that an image boots there. It may
import `goldenami.core` and the contract; `goldenami` never imports it.
"""
