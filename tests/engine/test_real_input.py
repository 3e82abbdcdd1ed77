"""A month of a real shop's invoices, sent as events: through the API its orders and its money come out to the penny.

The lines are those of Online Retail (Chen, D., 2015, UCI Machine Learning Repository, doi 10.24432/C5BW33, CC BY 4.0),
December 2010, where they lie beside the repository; and of a small file in the same shape, invented, which is always
here. Beside each lies what plain sums of its lines come to. How a line becomes part of an event:

- An invoice is one `Order Completed`; one whose number begins with C is a cancellation and one `Order Refunded`, of the
  amount without its sign. Each has an entry in `products` per line.
- An order that totals zero is an order of zero: the files count it, so it is sent, with a revenue of 0. Its lines have
  no price: gifts and stock corrections. An amount below zero may not be sent; no order here is, which is checked.
- A line of an order with a quantity below zero has no price either, and sold nothing: it is sent with the quantity 0.
- An invoice without a customer belongs to somebody of whom nothing else is known: to an anonymous id of its own. It
  counts among the orders and the revenue, and not among the customers.
- The times have no zone and are taken for UTC. They are sent as they are: the service is told that it is 2010-12-24
  and that events may be 31 days old.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.engine.shop import Json, Shop, new_table, opened

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "tests" / "data" / "online-retail-sample.csv"
REAL = ROOT.parent / "shared" / "data" / "online-retail" / "2010-12.csv"
FILES = {SAMPLE: SAMPLE.with_name("online-retail-sample-expected.csv")}
if REAL.exists():
    FILES[REAL] = REAL.with_name("expected_orders.csv")

CHRISTMAS_EVE = datetime(2010, 12, 24, 12, tzinfo=UTC)
FIRST, LAST = "2010-12-01", "2010-12-24"
# Far below the 500 KB that a body may have.
BATCH_CHARACTERS = 200_000


@dataclass
class Invoice:
    """The lines of one number, which are of one moment and one customer."""

    number: str
    lines: list[dict[str, str]]

    @property
    def is_cancellation(self) -> bool:
        return self.number.startswith("C")

    @property
    def customer(self) -> str | None:
        return self.lines[0]["CustomerID"].removesuffix(".0") or None

    @property
    def distinct_id(self) -> str:
        return self.customer or f"anon_invoice-{self.number}"

    @property
    def total(self) -> Decimal:
        total = sum(
            (Decimal(line["Quantity"]) * Decimal(line["UnitPrice"]) for line in self.lines), Decimal(0)
        )
        return -total if self.is_cancellation else total

    @property
    def quantities(self) -> list[int]:
        sign = -1 if self.is_cancellation else 1
        return [max(0, sign * int(line["Quantity"])) for line in self.lines]

    def event(self) -> Json:
        moment = self.lines[0]["InvoiceDate"].replace(" ", "T")
        return {
            "type": "track",
            "event": "Order Refunded" if self.is_cancellation else "Order Completed",
            "messageId": f"invoice-{self.number}",
            "timestamp": moment,
            "userId" if self.customer else "anonymousId": self.distinct_id,
            "properties": {
                "orderId": self.number,
                "currency": "GBP",
                "total" if self.is_cancellation else "revenue": str(self.total),
                "products": [
                    {"sku": line["StockCode"], "quantity": quantity, "price": float(line["UnitPrice"])}
                    for line, quantity in zip(self.lines, self.quantities, strict=True)
                ],
            },
        }


def _invoices(path: Path) -> list[Invoice]:
    invoices: dict[str, Invoice] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            invoices.setdefault(line["InvoiceNo"], Invoice(line["InvoiceNo"], [])).lines.append(line)
    return list(invoices.values())


def _expected(path: Path) -> dict[str, dict[str, Decimal]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row.pop("day"): {name: Decimal(number) for name, number in row.items()}
            for row in csv.DictReader(file)
        }


def _batches(invoices: list[Invoice]) -> Iterator[list[Json]]:
    batch: list[Json] = []
    size = 0
    for invoice in invoices:
        event = invoice.event()
        if size + len(str(event)) > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += len(str(event))
    yield batch


def _sums(shop: Shop, distinct_ids: set[str]) -> dict[str, dict[str, Decimal]]:
    """What the API says of everybody, day by day and in all, under the names of the expected file."""
    sums: dict[str, dict[str, Decimal]] = {}
    for distinct_id in distinct_ids:
        metrics = shop.metrics(distinct_id, FIRST, LAST)
        is_customer = not distinct_id.startswith("anon_")
        for numbers in [*metrics["days"], {"day": "ALL"} | metrics["totals"]]:
            assert {*numbers["revenue"], *numbers["refunds"]} <= {"GBP"}
            sum_of_day = sums.setdefault(numbers["day"], {})
            for name, number in (
                ("orders", numbers["orders"]),
                ("order_revenue_gbp", numbers["revenue"].get("GBP", 0)),
                ("cancellations", numbers["refundedOrders"]),
                ("cancelled_gbp", -numbers["refunds"].get("GBP", 0)),
                ("customers_with_orders", int(is_customer and numbers["orders"] > 0)),
                ("items", numbers["itemsSold"]),
            ):
                sum_of_day[name] = sum_of_day.get(name, Decimal(0)) + number
    return sums


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_orders_and_revenue_of_every_day_are_those_of_the_invoices(dynamodb_url: str, path: Path) -> None:
    invoices = _invoices(path)
    expected = _expected(FILES[path])
    lines = {day: numbers.pop("lines") for day, numbers in expected.items()}
    assert min(invoice.total for invoice in invoices) == 0
    items: dict[str, Decimal] = {}
    for invoice in invoices:
        if not invoice.is_cancellation:
            for day in (invoice.lines[0]["InvoiceDate"][:10], "ALL"):
                items[day] = items.get(day, Decimal(0)) + sum(invoice.quantities)

    with opened(new_table(dynamodb_url), CHRISTMAS_EVE, MAX_EVENT_AGE_DAYS="31") as shop:
        accepted = 0
        for batch in _batches(invoices):
            reply = shop.send(*batch)
            assert (reply["duplicates"], reply["rejected"]) == (0, [])
            accepted += reply["accepted"]
        # Sent once more in another order, as after a restart in the middle: nothing changes.
        random.Random(1).shuffle(invoices)
        again = shop.send(*next(_batches(invoices)))
        sums = _sums(shop, {invoice.distinct_id for invoice in invoices})

    assert len(invoices) == accepted
    assert (again["accepted"], again["rejectedCount"]) == (0, 0)
    assert {day: numbers | {"items": items[day]} for day, numbers in expected.items()} == sums
    assert lines["ALL"] == sum(len(invoice.lines) for invoice in invoices)
