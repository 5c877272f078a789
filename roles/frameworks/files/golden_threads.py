"""Set as many threads as this process's cgroup has CPUs. golden-threads.pth imports this module,
so it works however Python was started: by cron, `sudo` or Kubernetes, too."""

import os

if "OMP_NUM_THREADS" not in os.environ:
    # Here, not above: every start of Python runs this module, and a login has the variable.
    import subprocess

    answer = subprocess.run(["/opt/ml/bin/ml-threads"], capture_output=True, text=True, check=True)
    os.environ["OMP_NUM_THREADS"] = answer.stdout.strip()
    # TensorFlow ignores the cgroup's quota.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", answer.stdout.strip())
