"""``python -m fastconv``: the ``fastconv`` command."""

import sys

from .cli import main

sys.exit(main())
