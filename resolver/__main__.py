"""`python -m resolver` is the command `resolver`."""

import sys

from resolver.cli import main

sys.exit(main())
