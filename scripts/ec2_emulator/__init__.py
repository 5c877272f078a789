"""EC2, EBS, SSM and Auto Scaling on one machine: moto's server, held to rules that AWS has and moto
lacks.

`python -m ec2_emulator` (from `scripts/`, or `make emulator`) serves on loopback and prints what to
export; `--port N`, `--backdate-days N`. It ends with the process: nothing is stored.

* `server`: the application. It logs each call, authorizes it (`authorization`, `iam`) and hands it
  to moto, whose handlers and models `moto_overrides` has replaced. `state` holds what moto has no
  place for.
* `rules`: a rule is a function that `@rule` registers with the page that demands it. A handler in
  `compute/`, `storage/` or `services/` keeps it. `tests/aws/test_rules_tables.py` has what is
  refused; what else a rule changes, the tests of commands meet.
* `answers`: what a command reads and none makes (bills, reservations, fleets) a test states.
* The control API, for tests: `POST /_emulator/reset`, `PATCH /_emulator/settings`
  (`state.EmulatorSettings`: waits, page sizes, IAM denials, other accounts), `GET
  /_emulator/calls`, `POST /_emulator/damage` (a bit of a stored block), `POST /_emulator/write`
  (bytes of an instance's root volume).
* Faults: the setting `late` is a list of `late_rules.LateRule` (a mode for some calls of some
  regions, by seed), which `lateness` applies.

It is not AWS: no instance runs, no quota counts, no policy document is evaluated (settings allow
and deny by action), and services that this project does not call are moto's. It proves what this
project asks of EC2 and how it takes refusals, not that an image boots there. It may use
`goldenami.core`; the product does not know it.
"""
