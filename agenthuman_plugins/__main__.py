"""Makes `python -m agenthuman_plugins` the same as `agenthuman`."""

import sys

from agenthuman_plugins.cli import main

if __name__ == "__main__":
    sys.exit(main())
