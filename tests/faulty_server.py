"""`python -m tests.faulty_server run`: the service as it is, on a wire that breaks as planned.

The plan comes from the environment (`faults.environment`). It is installed while this module is imported, not
under the guard below: server workers are spawned, and each imports the main module again.
"""

from __future__ import annotations

import os
import runpy

from tests import faults

faults.install_from_environment(os.environ)

if __name__ == "__main__":
    runpy.run_module("service", run_name="__main__")
