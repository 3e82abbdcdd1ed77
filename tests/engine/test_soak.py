"""Five minutes of the soak: every count is exact, and memory stays level. `make soak` looks at latencies too."""

from __future__ import annotations

import random

import pytest

from tests.soak import Soak
from tests.soak.run import SLOPE_MAX_MB, quantile, slope

SECONDS = 300
# What one core can do beside the other tests.
RATE = 15


def test_for_five_minutes_totals_are_exact_and_memory_stays_level(dynamodb_url: str) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}\n{Soak.heading()}")
    soak = Soak(dynamodb_url, SECONDS, RATE, seed, print)
    soak.run()
    lines, _ = soak.verdict()
    print("\n".join(lines))

    assert soak.wrong == []
    assert soak.counts["requests"] == SECONDS * RATE
    assert soak.slope_mb < SLOPE_MAX_MB
    # Something of everything, or it proves little.
    assert soak.counts["erasures"] > 0
    assert sum(shopper.is_logged_in for shopper in soak.shoppers) > 0


def test_the_slope_is_that_of_the_line_nearest_to_the_samples() -> None:
    assert slope([(0.0, 60.0), (1.0, 62.0), (2.0, 64.0)]) == pytest.approx(2)
    # One sample out of line does not make a leak.
    assert slope([(0.0, 60.0), (1.0, 65.0), (2.0, 60.0)]) == pytest.approx(0)


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert quantile([5.0, 1.0, 4.0, 2.0, 3.0], 0.5) == 3
    assert quantile([float(n) for n in range(1, 201)], 0.99) == 198
    assert quantile([7.0], 0.99) == 7
