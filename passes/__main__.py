"""`python -m passes` is the `dataflow` command."""

import sys

from passes.cli import main

sys.exit(main())
