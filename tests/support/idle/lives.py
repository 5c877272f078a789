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
BY_SUMS = """
three-percent three-percent-often twenty-percent container-three-percent container-computes
threads-share-a-lock two-talk-by-pipes many-small-programs short-connections serves-steadily
receives-slowly sends-slowly writes-slowly rank-alone rank-at-its-store app-clicked
editor-by-tunnel labels-by-tunnel types-python types-in-docker-exec cell-sleeps cell-polls
cell-computes
"""
"""People and jobs whom a sample of ten seconds, or a list of editors' names, misses."""
WATCHES = """
container-agent container-agent-ticks health-checks scraped cell-at-input cell-at-input-in-loop
cuda-zombie yields heartbeats scans-logs top-forgotten app-forgotten app-unused waits-for-stdin
node-idle kernel-idle tunnel-unused
"""
"""Programs that run for ever, and do nothing for anybody."""
LIVES: Sequence[Life] = (
    *(Life(name, name, True) for name in (WORK + BY_SUMS).split()),
    Life("a script that holds GPU memory, GPU at rest", "tsne", True, gpus=(0.0,), holder="python"),
    Life("a served model, GPU at 1 %", "app-unused", True, gpus=(1.0,), holder="python"),
    Life("compute each 50 minutes", "tsne", True, between="nobody", minutes=50),
    Life("an editor each half hour", "editor-by-tunnel", True, between="nobody", minutes=30),
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
    *(Life(name, name, False) for name in (NOBODY + WATCHES).split()),
    Life("a zombie that holds GPU memory", "cuda-zombie", False, gpus=(0.0,), holder="python"),
    Life("a zombie that spins", "cuda-zombie-spins", False, gpus=(0.0,), holder="python"),
    Life(
        "a cell at input() with GPU memory", "cell-at-input", False, gpus=(0.0,), holder="python3"
    ),
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
