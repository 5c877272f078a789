"""golden-keep as the user of that number: `run.py UID ARGUMENTS`.

Tests may run as root, who owns no folder that is kept, in folders that only root may enter.
"""

import os
import sys

if __name__ == "__main__":
    UID = int(sys.argv[1])
    os.getuid = lambda: UID
    from golden_keep.cli import main

    sys.exit(main(sys.argv[2:]))
