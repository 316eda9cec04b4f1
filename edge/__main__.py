"""`python -m edge` is `harrier`."""

import sys

from edge.cli import main

sys.exit(main())
