"""As many threads as this process's cgroup has CPUs, however Python was started: by cron, `sudo` or
Kubernetes, too."""

import os

if "OMP_NUM_THREADS" not in os.environ:
    import subprocess

    told = subprocess.run(["/opt/ml/bin/ml-threads"], capture_output=True, text=True, check=True)
    os.environ["OMP_NUM_THREADS"] = told.stdout.strip()
    # TensorFlow does not look at the quota.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", told.stdout.strip())
