"""One server process at a steady rate for minutes: counts stay exact, memory stays level, replies stay quick.

    python -m tests.soak                            ten minutes; exit status 1 when a target is missed
    python -m tests.soak --minutes 5 --rate 40      so long, at so many requests a second

People come, shop for some dozens of requests and go, so the table grows and nobody's day does: what is measured at
the end is what was measured at the beginning. A request is due at its time, whether the ones before are answered or
not, and its latency is counted from then; so a stall is seen whole.
"""

from tests.soak.run import Soak

__all__ = ["Soak"]
