from __future__ import annotations

import subprocess
from pathlib import Path

from goldenami.local.programs import build_wheel

NVCC = "/usr/lib/nvidia-cuda-toolkit/bin/nvcc"


def test_nvcc_has_the_same_process_id_each_time_and_a_folder_of_its_own(tmp_path: Path) -> None:
    """It writes both into what it compiles, and two that run at once would share temporary files of
    one name."""
    program, script = tmp_path / "real", tmp_path / "nvcc"
    program.write_text(
        '#!/bin/sh\ntouch "$TMPDIR/tmpxft_$$" && echo "$$ $TMPDIR $*"\nexit 3\n', encoding="utf-8"
    )
    program.chmod(0o755)
    assert NVCC in build_wheel._SAME_NVCC
    script.write_text(build_wheel._SAME_NVCC.replace(NVCC, str(program)), encoding="utf-8")
    runs = [
        subprocess.run(["sh", script, "-c", "a b.cu"], capture_output=True, text=True, check=False)
        for _ in range(2)
    ]
    (pid, folder, said), (again, other, _) = (run.stdout.strip().split(" ", 2) for run in runs)
    assert [run.returncode for run in runs] == [3, 3]
    assert (pid, said) == (again, "-c a b.cu") and folder != other
    assert not Path(folder).exists() and not Path(other).exists()
