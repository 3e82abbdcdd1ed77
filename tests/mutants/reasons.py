"""Mutants that no test can notice, and why not."""

# The time of a visitor's erasure stands in its mark and in each of its days that there still is: a second source that
# is met in one request names the same time, or none.
_ONE_ERASURE = "both are of the one erasure that the request can meet"

REASONS: dict[str, str] = {
    "counting._Target._met: max(self.erased_at, self.own.erased_at) -> self.own.erased_at": _ONE_ERASURE,
    "counting._Target._met_mark: max(self.erased_at, erased_at_of(item)) -> erased_at_of(item)": _ONE_ERASURE,
    "counting._Target._met_mark: max(self.erased_at, alias.erased_at) -> alias.erased_at": _ONE_ERASURE,
}
