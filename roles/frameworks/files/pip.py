"""`python3 -m pip` in an environment without a pip of its own: the pip that a login has."""

import os
import sys

if __name__ == "__main__":
    os.environ["VIRTUAL_ENV"] = sys.prefix
    os.execv("/opt/ml/bin/pip", ["pip", *sys.argv[1:]])  # noqa: S606 - it takes this process over
