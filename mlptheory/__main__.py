"""`python -m mlptheory`, where the script is not on the path."""

import sys

from mlptheory.cli import main

if __name__ == "__main__":
    sys.exit(main())
