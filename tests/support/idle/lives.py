"""Machines that are needed, and machines that nobody needs: recordings, with what the stand-in for
GPUs says."""

from __future__ import annotations

from collections.abc import Sequence

from support.idle.recording import Life

WORK = """
ssh-types ssh-types-seldom ssh-tmux ssh-vim ssh-pdb sftp-saves ssh-shell-edits ssh-slow-upload
lab-runs lab-edits lab-sleeps lab-asks lab-terminal lab-tunnel-runs lab-container-edits
editor-saves editor-tunnel-saves
loader-bytes loader-requests loader-mapped slow-files asks-slowly asks-at-once asks-by-curl
asks-locally downloads-slowly serves container-works container-asks
one-thread no-call-compute makes bursts ranks-share-memory cron-trains
"""
NOBODY = """
nobody lab-closed lab-forgotten lab-tunnel-forgotten lab-container-closed lab-container-forgotten
editor-forgotten editor-tunnel-forgotten files-hang debugger-stopped pdb-in-tmux tmux-forgotten
ssh-forgotten ssh-watches watch-in-tmux tail-in-tmux serves-nobody nobody-scraped container-idle
client-answered spins-in-calls spins-outside
"""
LIVES: Sequence[Life] = (
    *(Life(name, name, True) for name in WORK.split()),
    Life("a prompt each half hour", "ssh-types-seldom", True, between="ssh-forgotten", minutes=30),
    Life("a notebook each half hour", "lab-edits", True, between="lab-forgotten", minutes=30),
    Life("bursts, then nothing for 45 minutes", "bursts", True, between="nobody", minutes=45),
    Life("a served model, GPU at 2 %", "serves", True, gpus=(2.0,), holder="python"),
    Life("a served model, GPU at 3 %", "serves", True, gpus=(3.0,), holder="python"),
    Life("a training", "one-thread", True, gpus=(99.0,), holder="python"),
    Life("the last of eight GPUs", "ssh-forgotten", True, gpus=(*[0.0] * 7, 40.0)),
    Life(
        "a rank in a barrier for 40 minutes",
        "one-thread",
        True,
        gpus=(99.0,),
        holder="native",
        spins="spins-outside",
        between="spins-outside",
        minutes=40,
    ),
    *(Life(name, name, False) for name in NOBODY.split()),
    Life("a kernel that holds GPU memory", "lab-closed", False, gpus=(0.0,), holder="python"),
    Life(
        "a debugger that holds GPU memory", "debugger-stopped", False, gpus=(0.0,), holder="python"
    ),
    Life(
        "a rank whose peers are dead",
        "spins-outside",
        False,
        gpus=(100.0,),
        holder="native",
        spins="spins-outside",
    ),
    Life("cron each hour", "hourly-cron", False, between="nobody", minutes=54),
    Life("a timer each hour", "hourly-timer", False, between="nobody", minutes=54),
)
