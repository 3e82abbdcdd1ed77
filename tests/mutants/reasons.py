"""Mutants that no test can notice, and why not."""

REASONS: dict[str, str] = {
    # The time of a visitor's erasure stands in its mark and in each of its days that there still is: a second source
    # that is met in one request names the same time, or none.
    "counting._Target._not_before: max(self.erased_at, erased_at) -> erased_at": (
        "both are of the one erasure that the request can meet"
    ),
    "days.StoredDay.is_erased_since: self.erased_at > began_ms -> self.erased_at >= began_ms": (
        "an erasure's time is put after that of every merge it ends, so they are never the same"
    ),
}
