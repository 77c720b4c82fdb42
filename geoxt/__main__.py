"""The command-line interface, run by `python -m geoxt`."""

import sys

from geoxt.cli import main

if __name__ == "__main__":
    sys.exit(main())
