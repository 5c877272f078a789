"""The `gpu-test` stage: the candidate on real GPUs, launched, checked, attested, terminated."""
