"""Start the system's ipykernel in an environment below /opt/ml, which has only the lock's wheels.

Both have the same Python. The system's packages come last, so the environment's own are imported
first.
"""

import sys

sys.path[0] = ""  # a notebook finds modules that lie beside it, not beside this file
sys.path.append("/usr/lib/python3/dist-packages")

from ipykernel.kernelapp import launch_new_instance  # noqa: E402 - the path above has it

launch_new_instance()
