"""How long to fuzz: 1 with every test run, more in `make fuzz`."""

from __future__ import annotations

import os

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
