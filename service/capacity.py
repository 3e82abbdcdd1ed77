"""What a request consumed, by DynamoDB's own word where it gives one and by AWS's published rules where not.

Pure: no I/O, no clock. Rules: Amazon DynamoDB Developer Guide, "DynamoDB read and write operations" and "DynamoDB item
sizes and formats". A failed conditional write consumes write units by the size of the item it met, at least one, and
its error names none; a cancelled transaction consumes what it would have consumed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

WRITE_UNIT_BYTES = 1024
READ_UNIT_BYTES = 4096
TRANSACTION_FACTOR = 2


@dataclass(slots=True)
class Capacity:
    """Units consumed so far."""

    write_units: float = 0
    read_units: float = 0
    is_estimated: bool = False

    def header(self) -> str:
        """The value of Footfall-Capacity: an RFC 8941 dictionary, `wru=1, rru=0.5`."""
        text = f"wru={_text(self.write_units)}, rru={_text(self.read_units)}"
        return text + ", estimated=1" if self.is_estimated else text


def _text(units: float) -> str:
    """Units come in halves."""
    return f"{units:.1f}".removesuffix(".0")


def write_units(*sizes_bytes: int) -> int:
    """Units of one write: the larger of the item before and after, at least one."""
    return max(1, ceil(max(sizes_bytes, default=0) / WRITE_UNIT_BYTES))


def read_units(sizes_bytes: Iterable[int], *, is_consistent: bool) -> float:
    """Units of one read: a GetItem of one item, or a Query, whose items are summed first. At least half a unit."""
    units = max(1, ceil(sum(sizes_bytes) / READ_UNIT_BYTES))
    return units if is_consistent else units / 2


def item_bytes(raw: Mapping[str, Mapping[str, Any]]) -> int:
    """Size of an item as DynamoDB bills it: names and values."""
    return sum(len(name.encode()) + _value_bytes(typed) for name, typed in raw.items())


def _value_bytes(typed: Mapping[str, Any]) -> int:
    """Of the types this table holds."""
    ((kind, value),) = typed.items()
    match kind:
        case "S":
            return len(value.encode())
        case "B":
            return len(value)
        case "N":
            return _number_bytes(value)
        case "SS":
            return sum(len(member.encode()) for member in value)
        case "BS":
            return sum(len(member) for member in value)
        case _:
            assert kind == "BOOL"
            return 1


def _number_bytes(text: str) -> int:
    digits = len(text.lstrip("-").replace(".", "").strip("0"))
    return min(21, ceil(digits / 2) + 1 + text.startswith("-"))


def least_units(arguments: Mapping[str, Any]) -> int:
    """What a write consumes at least, by AWS's rules."""
    if "RequestItems" in arguments:
        return 0  # as many as it reports: those it did not process are none
    if "TransactItems" not in arguments:
        return write_units()
    return TRANSACTION_FACTOR * sum(
        write_units(item_bytes(part.get("Item", {})))
        for action in arguments["TransactItems"]
        for part in action.values()
    )


def least_read_units(arguments: Mapping[str, Any]) -> float:
    """What a read consumes at least: of a BatchGetItem a unit for each key, also of what is not there."""
    if "RequestItems" not in arguments:
        return read_units((), is_consistent=arguments["ConsistentRead"])
    tables = arguments["RequestItems"].values()
    return sum(len(of["Keys"]) * read_units((), is_consistent=of["ConsistentRead"]) for of in tables)


def cancelled_units(actions: Sequence[Mapping[str, Any]], reasons: Sequence[Mapping[str, Any]]) -> int:
    """What a cancelled transaction consumed: twice the units of each action, as far as the items' sizes are known."""
    return sum(
        TRANSACTION_FACTOR
        * write_units(
            *(
                item_bytes(item)
                for item in (reason.get("Item"), *(part.get("Item") for part in action.values()))
                if item
            )
        )
        for action, reason in zip(actions, reasons, strict=True)
    )
