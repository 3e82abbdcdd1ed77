"""Every interleaving of the real ingest and merge, with crashes, lost replies and stale alias reads.

    python -m tests.explorer                  every scenario; exit status 1 when one goes wrong
    python -m tests.explorer --plant follow   with a fault planted in the service, which must be found
    python -m tests.explorer --plant list     the faults there are

Each database call is a point where another process may come in. A process is a real request (`ingest.ingest`,
`merge.join`) whose client answers from a record; at the first call that is not recorded it stops, and what it asked for
is its next step. So a process can be put back to any point by replaying what it was answered. A step is applied to the
table by moto, one at a time, as atomic as DynamoDB's own (`tests/engine/test_explorer.py` repeats the steps on DynamoDB
Local and compares).

A state is the table, what each process was answered, and the faults left. Schedules that lead to one state have one
future, so states are explored and schedules only counted.
"""

from tests.explorer.plants import PLANTS
from tests.explorer.run import explore
from tests.explorer.scenarios import scenarios
from tests.explorer.states import Report
from tests.explorer.table import Engine, frozen

__all__ = ["PLANTS", "Engine", "Report", "explore", "frozen", "scenarios"]
