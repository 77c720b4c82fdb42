"""`python -m geoxt.cli`: the command-line interface."""

import sys

from geoxt.cli import main

if __name__ == "__main__":
    sys.exit(main())
