"""A raw event as the search index has it: its document, and the document's id. `index_template` has the mapping.

Pure: no I/O, no clock.

    _id              see `document_id`
    user             whose the event is now: the user a visitor became, else `sentAs`
    sentAs           the id it was sent with: the partition its raw item lies in
    messageId        in _source alone; absent where it has none, as every field below
    day              YYYY-MM-DD in the shop's zone: the day that counted it, and whose month tells the index
    time             when it happened, epoch milliseconds
    receivedAt       when it arrived, epoch milliseconds
    earliest         the earlier of receivedAt and the first time of its raw item: an erasure at t removes t and less
    type             track, page or screen
    event            Segment's name for what is known, the name as sent for the rest; "Page Viewed", "Screen Viewed"
    metrics          the counters it adds 1 to, as replies name them: "events", "productViews", "orders"
    itemsSold        of an order, engagedSeconds of a page left: whole numbers
    revenueMinor     of an order that counts, refundMinor of a refund; in the minor unit of `currency`
    session          hexadecimal; what distinct sessions are counted by
    orderId
    productId        of the event and of each of its products, each once; category likewise
    lines            of an order with revenue: JSON texts ["product id" or null, "category" or null, minor units], each
                     pair of product and category once, with the sum of its prices times quantities; read by `line`
    path, referrerHost, campaignSource, campaignMedium, campaignName
    properties       as sent, within bounds, in one flat field

`lines` are no nested objects: OpenSearch before 3 keeps no index with those sorted, and it is the order by user by
which a page of a composite aggregation ends early. Being JSON and once a document, a composite over `lines` counts
each, and minor units times documents is what a line sold for.

The engine reads every text as a term of at most 32,766 bytes and every integer as a long, and an update by query reads
and writes all of a document as Java's numbers and strings. So texts are cut, lone surrogates replaced, and numbers of
properties that are no long are texts of their digits.
"""

import decimal
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from . import metrics, money
from .events import EVENT_BYTES_MAX
from .packing import RawEvent

Json = dict[str, Any]

KEYWORD_CHARACTERS_MAX = 512
# 20 names of 256 characters and a text of 1,024 are at most 24,600 bytes: a flat field makes one term of them.
TEXT_CHARACTERS_MAX = 1024
PROPERTY_NAME_CHARACTERS_MAX = 256
PROPERTY_DEPTH_MAX = 20
_LONG = range(-(2**63), 2**63)
# A product of two numbers of an event has no more digits, so that nothing is rounded twice.
_EXACT = decimal.Context(prec=2 * EVENT_BYTES_MAX, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[])
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_COUNT_OF_ONE = frozenset({"items_sold", "engaged_seconds"})
_EVENT_OF_TYPE = {"page": "Page Viewed", "screen": "Screen Viewed"}


# --- a document -----------------------------------------------------------------------------------------------------


def document(raw: RawEvent, sent_as: str, owner: str, first_ms: int) -> tuple[str, Json]:
    """The id and the fields of an event.

    `sent_as` is whose partition its raw item lies in, `first_ms` when the first event of that item happened (epoch
    milliseconds), `owner` who `sent_as` is by now. Whatever the rules accept gives a document that the mapping takes.
    """
    event, sent = raw.event, raw.sent
    part = event.part
    assert part is not None
    assert event.day is not None
    properties = _object(sent.get("properties"))
    context = _object(sent.get("context"))
    fields: Json = {
        "user": owner,
        "sentAs": sent_as,
        "messageId": _keyword(event.message_id),
        "day": event.day,
        "time": event.instant_ms,
        "receivedAt": raw.received_ms,
        "earliest": min(raw.received_ms, first_ms),
        "type": event.type,
        "event": _event_name(raw),
        "metrics": [metrics.camel(name) for name in part.counters if name not in _NO_COUNT_OF_ONE],
        "itemsSold": part.counters.get("items_sold"),
        "engagedSeconds": part.counters.get("engaged_seconds"),
        **_money(part),
        "session": part.session.hex() if part.session is not None else None,
        "orderId": part.order_id,
        **_products(part, properties),
        **_origin(context, properties),
        "properties": _flat(properties, PROPERTY_DEPTH_MAX),
    }
    return document_id(raw, sent_as), {
        name: value for name, value in fields.items() if value is not None and value not in ([], {})
    }


def document_id(raw: RawEvent, sent_as: str) -> str:
    """40 hexadecimal digits: of an order that counts by its id, which counts once in a shop; of every other event by
    the identity as sent, the day and the messageId. So whatever sends an event again makes no second document."""
    event = raw.event
    assert event.part is not None
    if event.part.order_id is not None:
        what = f"order\0{event.part.order_id}"
    else:
        what = f"event\0{sent_as}\0{event.day}\0{event.message_hash.hex()}"
    return hashlib.sha256(what.encode()).hexdigest()[:40]


class Line(NamedTuple):
    """What an order sold of a product, in minor units of the order's currency."""

    product_id: str | None
    category: str | None
    minor: int


def line(text: str) -> Line:
    """What a value of `lines` says."""
    return Line(*json.loads(text))


def _event_name(raw: RawEvent) -> str:
    event = raw.event
    assert event.part is not None
    if event.type != "track":
        return _EVENT_OF_TYPE[event.type]
    if event.part.name is not None:
        return event.part.name
    name = raw.own.get("event")
    return metrics.event_name(raw.own["name"] if name is None else name)


def _money(part: metrics.Contribution) -> Json:
    amount = part.revenue or part.refund
    if amount is None:
        return {}
    return {
        "refundMinor" if part.revenue is None else "revenueMinor": amount.minor,
        "currency": amount.currency,
    }


def _products(part: metrics.Contribution, properties: Mapping[str, Any]) -> Json:
    listed = list(_listed(properties))
    everything = [properties, *listed]
    fields: Json = {
        "productId": _distinct(map(_product_id, everything)),
        "category": _distinct(map(_category, everything)),
    }
    if part.revenue is not None:
        sums: dict[tuple[str | None, str | None], int] = {}
        for product in listed:
            key = _product_id(product), _category(product)
            minor = _line_minor(product, part.revenue.currency)
            if minor is not None and key != (None, None):
                sums[key] = sums.get(key, 0) + minor
        fields["lines"] = [
            json.dumps([*key, minor], ensure_ascii=False, separators=(",", ":"))
            for key, minor in sums.items()
        ]
    return fields


def _listed(properties: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The products of an event, under Segment's name or GA4's, as items sold are counted."""
    products = properties.get("products")
    products = properties.get("items") if products is None else products
    if isinstance(products, list):
        yield from (product for product in products if isinstance(product, dict))


def _product_id(product: Mapping[str, Any]) -> str | None:
    return _first(product, "product_id", "productId", "sku", "item_id")


def _category(product: Mapping[str, Any]) -> str | None:
    return _first(product, "category", "item_category")


def _line_minor(product: Mapping[str, Any], currency: str) -> int | None:
    """Price times quantity, rounded half up once; None without a price that could be one."""
    try:
        price, quantity = money.number(product.get("price")), Decimal(1)
        if product.get("quantity") is not None:
            quantity = money.number(product["quantity"])
        if 0 <= price <= money.AMOUNT_MAX and 0 <= quantity <= metrics.QUANTITY_MAX:
            decimals = money.DECIMALS[currency]
            amount = _EXACT.multiply(price, quantity)
            return int(
                amount.quantize(Decimal(1).scaleb(-decimals), decimal.ROUND_HALF_UP, _EXACT).scaleb(decimals)
            )
    except money.InvalidAmountError:
        pass
    return None


def _origin(context: Mapping[str, Any], properties: Mapping[str, Any]) -> Json:
    """Where a visit came from, and where it was."""
    page, campaign = _object(context.get("page")), _object(context.get("campaign"))
    return {
        "path": _path(page, properties),
        "referrerHost": _host(_text(page, "referrer") or _text(properties, "referrer")),
        "campaignSource": _first(campaign, "source"),
        "campaignMedium": _first(campaign, "medium"),
        "campaignName": _first(campaign, "name"),
    }


def _path(page: Mapping[str, Any], properties: Mapping[str, Any]) -> str | None:
    path = _text(page, "path") or _text(properties, "path")
    if path is None:
        url = _text(page, "url") or _text(properties, "url")
        path = _parts(url).path if url else None
    # What follows may hold what a visitor has typed.
    return _keyword(re.split("[?#]", path, maxsplit=1)[0]) if path else None


def _host(url: str | None) -> str | None:
    return _keyword(_parts(url).hostname) if url else None


def _parts(url: str) -> Any:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


# --- within what the engine takes -----------------------------------------------------------------------------------


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(source: Mapping[str, Any], name: str) -> str | None:
    value = source.get(name)
    return value if isinstance(value, str) and value else None


def _first(source: Mapping[str, Any], *names: str) -> str | None:
    """The first of these fields that holds a text, or a whole number as clients write ids."""
    for name in names:
        value = source.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 426:
            value = str(value)
        if isinstance(value, str) and value:
            return _keyword(value)
    return None


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(value for value in values if value is not None))


def _keyword(text: str | None) -> str | None:
    return _clean(text, KEYWORD_CHARACTERS_MAX) if text else None


def _clean(text: str, characters_max: int) -> str:
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text[:characters_max])


def _flat(value: Any, depth: int) -> Any:
    """What a flat field takes of a value; containers that lie too deep are left out."""
    if isinstance(value, dict):
        return {
            _property_name(name): _flat(inner, depth - 1)
            for name, inner in value.items()
            if _fits(inner, depth)
        }
    if isinstance(value, list):
        return [_flat(inner, depth - 1) for inner in value if _fits(inner, depth)]
    if isinstance(value, str):
        return _clean(value, TEXT_CHARACTERS_MAX)
    if isinstance(value, Decimal) or (isinstance(value, int) and value not in _LONG):
        return _digits(value)
    return value


def _fits(value: object, depth: int) -> bool:
    return depth > 1 or not isinstance(value, dict | list)


def _property_name(name: str) -> str:
    # Elasticsearch takes no zero byte in a name.
    return _clean(name, PROPERTY_NAME_CHARACTERS_MAX).replace("\0", "\N{REPLACEMENT CHARACTER}")


def _digits(number: Decimal | int) -> str:
    if isinstance(number, int) and number.bit_length() > 4 * TEXT_CHARACTERS_MAX:
        # Python refuses to print it, and its digits would be cut.
        return f"{Decimal(number):.15E}"
    return str(number)[:TEXT_CHARACTERS_MAX]
