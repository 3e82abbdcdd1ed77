"""Every answer of the search API is that of brute force over the same events, on a real OpenSearch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service import search_queries
from service.opensearch import Engine
from tests import opensearch_local
from tests.brute_force import Json
from tests.engine.search_shop import Made, as_happened, check, fill, make_months, searches, shops


@pytest.fixture(scope="module")
def index(opensearch_url: str) -> Iterator[Engine]:
    """Months that some searches reach beyond: those have no index."""
    with opensearch_local.connected(opensearch_url) as engine:
        make_months(engine)
        yield engine


# Each try costs a second, and shrinking takes hundreds: a failure names the search and the shop.
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
    report_multiple_bugs=False,
)
@given(
    shop=shops(),
    asked=st.lists(searches, min_size=12, max_size=12),
    limit=st.integers(1, 3),
    page_buckets=st.sampled_from([1, 2, 7, search_queries.PAGE_BUCKETS]),
)
def test_every_answer_is_that_of_brute_force(
    index: Engine, shop: list[Made], asked: list[tuple[str, Json]], limit: int, page_buckets: int
) -> None:
    fill(index, shop)
    events = [as_happened(made) for made in shop]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_queries, "PAGE_BUCKETS", page_buckets)
        for kind, request in asked:
            check(index, events, kind, request, limit)
