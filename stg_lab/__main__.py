"""`python -m stg_lab` is `stg-lab`."""

import sys

from stg_lab.cli import main

sys.exit(main())
