"""Four server processes, sixteen clients, one table: the same events over and over, in ever other company.

    python -m tests.storm                                   five minutes of it; exit status 1 when something is wrong
    python -m tests.storm --seed 7 --requests 20000         the storm of that seed, until so many requests are decided

Every event is sent one to five times, in changing batches and orders, by whichever client comes first, while its
visitor becomes a user in each of the ways there are, orders are reported by several people at once, and people are
erased. A third of the connections of clients is cut: in the middle of a request, before the reply, in the middle of
the reply. The wire to the database breaks all the while. Then everything is sent again, and new events with it. Raw
events are kept: in the end a recount finds no difference, and a sweep leaves nothing of who was erased.

The model is sets of facts (`model`), which know nothing of the service. What is sent comes from a seed; in what order
it arrives does not. Three things are not decided by what is sent, and the service is asked for them: whose a visitor
two users claim is (one of the two, for good), which report of an order counted (one, or none if its person was
erased), and whether an event of while its person was being erased counts (the answer to its last copy says so).
"""

from tests.storm.run import Storm

__all__ = ["Storm"]
