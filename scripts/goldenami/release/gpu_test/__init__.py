"""The `gpu-test` stage: launches the candidate on real GPUs, runs its checks, and records them."""
