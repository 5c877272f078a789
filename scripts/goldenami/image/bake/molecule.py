"""Throw-away containers for Molecule, with the layers, network and package source of a bake.

`up` starts a supervisor that outlives this process and holds the namespaces; `down` ends it. If a
supervisor is killed, its container ends too, and the next `up` or `down` removes its folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.errors import BadInput, Busy, StageFailed
from goldenami.core.process import ProcessId, is_left
from goldenami.core.wait import wait_until
from goldenami.image.bake.bake_inputs import BakeInputs
from goldenami.local.machine import container, packer
from goldenami.local.sandbox import namespaces, program
from goldenami.model.builds.plans import ContainerAccess
from goldenami.packages.store import Store

UP_LIMIT_S = 1200.0
"""Seconds for the layers below a role (30-180, only the first time) and the boot (1-6)."""
END_S = 10.0
"""Seconds that a supervisor has to end its container; after that it is killed."""


class MoleculeInstance(ContainerAccess):
    """The facts of its container that a scenario gets; `vars` is the file of the roles'
    variables."""

    name: str
    vars: Path
    image: str


def _folder(store: Store, name: str) -> Path:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise BadInput(f"`{name}` is no name for a container", hint="use letters, digits, - and _")
    return store.cache.containers / name


def up(inputs: BakeInputs, name: str, *, role: str, tools: bool) -> MoleculeInstance:
    """Start container `name` on the layers that a bake has below `role`, or on the base tree if the
    image lacks the role. Returns how Molecule reaches it. With `tools` the lock's compilers are
    among its packages."""
    container.check_host()
    # Bakes use the layers made here, so the user's settings of Ansible and Packer must not shape
    # them.
    packer.forget_settings()
    down(name, inputs.store)
    folder = _folder(inputs.store, name)
    folder.mkdir(parents=True)
    log, steps = folder / "log", inputs.lock.steps
    inputs.fetch(tools=tools)
    inputs.compile_again(log)
    plan = inputs.plan(folder, log, inputs.repository(tools=tools))
    below = next((number for number, step in enumerate(steps) if role in step.roles), 0)
    plan = plan.model_copy(update={"steps": plan.steps[:below]})
    argv = program.argv("goldenami.local.programs.supervise_container", plan)
    supervisor = shell.Command(argv, env=shell.python_env()).start(log=log, session=True)
    access = wait_ready(name, folder, supervisor)
    return MoleculeInstance(
        address=access.address,
        ssh_key=access.ssh_key,
        proxy_command=access.proxy_command,
        name=name,
        vars=folder / "out/vars.json",
        image=inputs.lock.image,
    )


def wait_ready(name: str, folder: Path, supervisor: subprocess.Popen[bytes]) -> ContainerAccess:
    """The access to container `name`, once its supervisor has written it. If the container does not
    come up, or the wait is interrupted, the supervisor is ended."""
    log = folder / "log"

    def ready() -> bool | None:
        if (folder / "ready.json").exists():
            return True
        return None if supervisor.poll() is None else False

    try:
        if not wait_until(ready, UP_LIMIT_S, 0.1):
            raise StageFailed(f"container {name} did not come up", tail=shell.end_of(log), log=log)
    except BaseException:
        # An interrupt does not reach the supervisor, which is in a session of its own.
        shell.stop(supervisor, grace_s=END_S)
        raise
    return records.read(folder / "ready.json", ContainerAccess)


def down(name: str, store: Store) -> None:
    """End container `name` and remove its folder, if there is one."""
    folder = _folder(store, name)
    with contextlib.suppress(OSError):
        text = (folder / "pid").read_text(encoding="utf-8")
        supervisor = ProcessId.parse(text)
        if supervisor and not supervisor.alive and not is_left(folder / "pid", text):
            raise Busy(
                f"container {name} was started on another machine or in another container",
                hint=f"end it there; if that machine was started anew, remove {folder}",
            )
        if supervisor and supervisor.alive:
            os.kill(supervisor.pid, signal.SIGTERM)
            wait_until(lambda: not supervisor.alive or None, END_S, 0.1)
    # A supervisor that was killed has left its cgroup behind.
    namespaces.reap()
    shutil.rmtree(folder, ignore_errors=True)
