"""Start the system's ipykernel in an environment below /opt/ml, which has the lock's wheels alone.

Both have the same Python. The system's packages come last, so what the environment has is what is
imported.
"""

import sys

sys.path[0] = ""  # a notebook finds modules that lie beside it, not beside this file
sys.path.append("/usr/lib/python3/dist-packages")

from ipykernel.kernelapp import launch_new_instance  # noqa: E402 - it is found only now

launch_new_instance()
