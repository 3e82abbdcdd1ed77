"""What is stored, and under which names: the PynamoDB declarations every read and write is built from.

Nothing here talks to DynamoDB; `dynamodb` does, with the expressions and values these models serialise.
"""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from pynamodb.attributes import (
    Attribute,
    BinaryAttribute,
    BinarySetAttribute,
    BooleanAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UnicodeSetAttribute,
)
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.operand import Path
from pynamodb.expressions.update import AddAction, SetAction
from pynamodb.expressions.util import get_value_placeholder
from pynamodb.models import Model

from . import keys
from .days import StoredDay
from .events import epoch_ms
from .metrics import COUNTERS
from .problems import Unavailable

Raw = Mapping[str, Mapping[str, Any]]
"""An item as botocore gives and takes it: {"events": {"N": "3"}}."""


class NumberFamily:
    """Numbers under one prefix, one attribute per member: `revenue#EUR`, `revenue#USD`.

    Top-level, because ADD to a map's member fails until somebody has made the map. The member is escaped, because
    PynamoDB takes `.` and `[` in a name for a path into the item.
    """

    _UNSAFE = re.compile(r"[%.\[\]\x00-\x1f]")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix + "#"

    def __getitem__(self, member: str) -> NumberAttribute:
        escaped = self._UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", member)
        return NumberAttribute(attr_name=self.prefix + escaped)

    def member(self, attribute_name: str) -> str | None:
        """The member an attribute stands for; None when it belongs to another family."""
        return unquote(attribute_name[len(self.prefix) :]) if attribute_name.startswith(self.prefix) else None


SCHEMA = 1
"""The version of what is declared here. A change that an older reader would misread raises it (docs/upgrading.md)."""


class Item(Model):
    """What every item has."""

    pk = UnicodeAttribute(hash_key=True, attr_name="PK")
    sk = UnicodeAttribute(range_key=True, attr_name="SK")
    # Epoch seconds; DynamoDB deletes the item some time after it (TTL).
    expires_at = NumberAttribute(null=True, attr_name="expiresAt")
    # Absent in items from before it was kept, which read the same.
    schema = NumberAttribute(null=True, default_for_new=SCHEMA)


class DayItem(Item):
    """One user's or anonymous visitor's day.

    Sealed by a merge it holds `mergedInto`, when that merge began, and the revision that was moved (none if there was
    nothing to move). Fenced by an erasure it holds `erasedAt`, and what is counted from then on.
    """

    events = NumberAttribute(null=True)
    page_views = NumberAttribute(null=True, attr_name="pageViews")
    searches = NumberAttribute(null=True)
    list_views = NumberAttribute(null=True, attr_name="listViews")
    product_views = NumberAttribute(null=True, attr_name="productViews")
    promotion_clicks = NumberAttribute(null=True, attr_name="promotionClicks")
    cart_adds = NumberAttribute(null=True, attr_name="cartAdds")
    cart_removes = NumberAttribute(null=True, attr_name="cartRemoves")
    cart_views = NumberAttribute(null=True, attr_name="cartViews")
    wishlist_adds = NumberAttribute(null=True, attr_name="wishlistAdds")
    checkouts = NumberAttribute(null=True)
    orders = NumberAttribute(null=True)
    refunded_orders = NumberAttribute(null=True, attr_name="refundedOrders")
    cancelled_orders = NumberAttribute(null=True, attr_name="cancelledOrders")
    items_sold = NumberAttribute(null=True, attr_name="itemsSold")
    engaged_seconds = NumberAttribute(null=True, attr_name="engagedSeconds")

    # Integers of the currency's minor unit, by currency; events by name.
    revenue = NumberFamily("revenue")
    refunds = NumberFamily("refunds")
    by_event = NumberFamily("event")

    # Six-byte hashes of messageIds and of session ids.
    seen = BinarySetAttribute(legacy_encoding=False)
    sessions = BinarySetAttribute(legacy_encoding=False)
    # Of `seen`, those that count on another user's day.
    elsewhere = BinarySetAttribute(null=True, legacy_encoding=False)
    order_ids = UnicodeSetAttribute(null=True, attr_name="orderIds")
    # What bounds the families above.
    names = UnicodeSetAttribute(null=True)
    currencies = UnicodeSetAttribute(null=True)
    # One more with each write.
    revision = NumberAttribute(null=True)

    merged_into = UnicodeAttribute(null=True, attr_name="mergedInto")
    # Of that merge; as in its alias.
    started_at = UnicodeAttribute(null=True, attr_name="startedAt")
    # Counts nothing any more: a merge moved more ids here than a day may hold.
    full = BooleanAttribute(null=True)
    # Epoch milliseconds. Events of before do not count, whenever they arrive.
    erased_at = NumberAttribute(null=True, attr_name="erasedAt")


class MarkItem(Item):
    """What is known of an id as a whole."""

    # Epoch milliseconds; also, as ISO 8601, part of the key of the PENDING row of an erasure.
    erased_at = NumberAttribute(null=True, attr_name="erasedAt")
    # As long as the erasure is under way.
    erasing = BooleanAttribute(null=True)


class AliasItem(MarkItem):
    """Whose an anonymous id is: `merging` becomes `merged`, and only an erasure ends that.

    Nobody's, without a user, it is `erased`.
    """

    user_id = UnicodeAttribute(null=True, attr_name="userId")
    status = UnicodeAttribute()
    # ISO 8601, UTC; part of the key of the PENDING row of a merge.
    started_at = UnicodeAttribute(null=True, attr_name="startedAt")
    # Days that moved; set when merged.
    days = NumberAttribute(null=True)


class ErasedItem(MarkItem):
    """That a user was erased."""


class OrderItem(Item):
    """A claim: this order was counted, by the event with this messageId's hash. It says nothing of whose it is."""

    message_hash = BinaryAttribute(legacy_encoding=False, attr_name="messageHash")


class WayBackItem(Item):
    """By its key alone: this user has this anonymous id."""


class PendingItem(Item):
    """A merge or an erasure begun and not ended, or ended and to be looked after; the id is in the key."""

    kind = UnicodeAttribute()
    # Epoch milliseconds: when the work began that put the last fences of an erased id, ten minutes before at most.
    fenced_at = NumberAttribute(attr_name="fencedAt", null=True)


class EventsItem(Item):
    """Raw events of one request and one identity, as `packing` has them."""

    # Epoch milliseconds.
    received_at = NumberAttribute(attr_name="receivedAt")
    # How many.
    events = NumberAttribute()
    payload = BinaryAttribute(legacy_encoding=False)


class SettingsItem(Item):
    """What a table must keep for as long as it has data."""

    timezone = UnicodeAttribute()


def check_schema(raw: Raw) -> None:
    """Raises Unavailable for an item that a newer version wrote: to guess at it could count wrongly."""
    if _value(raw, Item.schema, 0) > SCHEMA:
        raise Unavailable(
            "The table holds items of a newer version of Footfall; deploy that version again.",
            code="misconfigured",
        )


def attribute(model: type[Item], python_name: str) -> Attribute[Any]:
    """The declared attribute behind a Python name."""
    return model.get_attributes()[python_name]


COUNTER_ATTRIBUTES: dict[str, Attribute[Any]] = {name: attribute(DayItem, name) for name in COUNTERS}
_COUNTER_OF_ATTRIBUTE = {attr.attr_name: name for name, attr in COUNTER_ATTRIBUTES.items()}
_FAMILIES = (
    (DayItem.revenue, "revenue_minor"),
    (DayItem.refunds, "refunds_minor"),
    (DayItem.by_event, "by_event"),
)


def stored_day(raw: Raw, *, with_ids: bool = True) -> StoredDay:
    """Read a day item; without its ids and names, which replies do not show, in a tenth of the memory.

    By hand rather than by `from_raw_data`: the families have no fixed names, and a range query reads hundreds of
    attributes, which PynamoDB's descriptors make three times as slow.
    """
    check_schema(raw)
    day = StoredDay(keys.day_of(raw[DayItem.sk.attr_name]["S"]))
    counters = day.metrics.counters
    for name, typed in raw.items():
        if counter := _COUNTER_OF_ATTRIBUTE.get(name):
            counters[counter] = int(typed["N"])
        elif "#" in name:
            for family, sums in _FAMILIES:
                if (member := family.member(name)) is not None:
                    getattr(day.metrics, sums)[member] = int(typed["N"])
    day.metrics.sessions = _value(raw, DayItem.sessions, set())
    if with_ids:
        day.seen = _value(raw, DayItem.seen, set())
        day.elsewhere = _value(raw, DayItem.elsewhere, set())
        day.names = _value(raw, DayItem.names, set())
        day.currencies = _value(raw, DayItem.currencies, set())
        day.metrics.order_ids = _value(raw, DayItem.order_ids, set())
    day.revision = _value(raw, DayItem.revision, None)
    day.merged_into = _value(raw, DayItem.merged_into, None)
    started_at = _value(raw, DayItem.started_at, None)
    if started_at is not None:
        day.merge_began_ms = epoch_ms(datetime.fromisoformat(started_at))
    day.full = _value(raw, DayItem.full, False)
    day.erased_at = erased_at_of(raw)
    return day


def erased_at_of(raw: Raw) -> int:
    """When what an item stands for was erased, in epoch milliseconds; 0 for never."""
    return int(_value(raw, MarkItem.erased_at, 0))


def _value(raw: Raw, attr: Attribute[Any], default: Any) -> Any:
    typed = raw.get(attr.attr_name)
    return default if typed is None else attr.deserialize(attr.get_value(dict(typed)))


class _OneAttribute:
    """An action on one attribute, without an operand object each for its name and its value."""

    def __init__(self, attribute: Attribute[Any], value: Any) -> None:
        self._name = attribute.attr_name
        self._value = {attribute.attr_type: attribute.serialize(value)}

    def _placeholders(self, names: dict[str, str], values: dict[str, Any]) -> tuple[str, str]:
        return names.setdefault(self._name, f"#{len(names)}"), get_value_placeholder(self._value, values)


class Add(_OneAttribute, AddAction):
    """What `attribute.add(value)` makes."""

    def serialize(
        self, placeholder_names: dict[str, str], expression_attribute_values: dict[str, Any]
    ) -> str:
        """`#0 :0`."""
        return " ".join(self._placeholders(placeholder_names, expression_attribute_values))


class Keep(_OneAttribute, SetAction):
    """What `attribute.set(attribute | value)` makes: the value, unless there is one."""

    def serialize(
        self, placeholder_names: dict[str, str], expression_attribute_values: dict[str, Any]
    ) -> str:
        """`#0 = if_not_exists (#0, :0)`."""
        name, value = self._placeholders(placeholder_names, expression_attribute_values)
        return f"{name} = if_not_exists ({name}, {value})"


class NoneIn(Condition):
    """None of these members is in the set: `~attribute.contains(member)` for each, joined by AND.

    Serialised in one pass, because PynamoDB's five objects a member are a tenth of an invocation of ten events.
    """

    def __init__(self, attribute: Attribute[Any], members: Collection[Any]) -> None:
        super().__init__("NOT contains", Path(attribute))
        self._kind = attribute.attr_type[0]
        self._members = attribute.serialize(members)

    def serialize(
        self, placeholder_names: dict[str, str], expression_attribute_values: dict[str, Any]
    ) -> str:
        """`NOT contains (#0, :0) AND NOT contains (#0, :1)`."""
        name = self.values[0].serialize(placeholder_names, expression_attribute_values)
        placeholders = [
            get_value_placeholder({self._kind: member}, expression_attribute_values)
            for member in self._members
        ]
        return " AND ".join([f"NOT contains ({name}, {placeholder})" for placeholder in placeholders])


class Fits(Condition):
    """Room for so many more members in a set that may hold so many: `~attribute | (size(attribute) <= most - more)`.

    Serialised in one pass, as most writes have two or three of them.
    """

    def __init__(self, attribute: Attribute[Any], more: int, members_max: int) -> None:
        super().__init__("<=", Path(attribute))
        self._value = {"N": str(members_max - more)}

    def serialize(
        self, placeholder_names: dict[str, str], expression_attribute_values: dict[str, Any]
    ) -> str:
        """`(attribute_not_exists (#0) OR size (#0) <= :0)`."""
        name = self.values[0].serialize(placeholder_names, expression_attribute_values)
        value = get_value_placeholder(self._value, expression_attribute_values)
        return f"(attribute_not_exists ({name}) OR size ({name}) <= {value})"


class ErasedBefore(Condition):
    """Not erased, or before this moment, in epoch milliseconds: what may count such events.

    Serialised in one pass, as it is part of every write.
    """

    def __init__(self, instant_ms: int) -> None:
        super().__init__("<", Path(MarkItem.erased_at))
        self._value = {"N": str(instant_ms)}

    def serialize(
        self, placeholder_names: dict[str, str], expression_attribute_values: dict[str, Any]
    ) -> str:
        """`(attribute_not_exists (#0) OR #0 < :0)`."""
        name = self.values[0].serialize(placeholder_names, expression_attribute_values)
        value = get_value_placeholder(self._value, expression_attribute_values)
        return f"(attribute_not_exists ({name}) OR {name} < {value})"


class AllOf(Condition):
    """Conditions joined by AND without nesting: 90 ids joined in pairs would be 90 parentheses deep."""

    def __init__(self, *conditions: Condition) -> None:
        super().__init__("AND", *conditions)
        self.format_string = " {operator} ".join(f"{{{position}}}" for position in range(len(conditions)))
