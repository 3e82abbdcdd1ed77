"""A month of a real shop's invoices, imported from its CSV at its own dates: to the penny, and once.

The files and what their lines sum up to are those of `test_real_input`, which sends them by itself; here the mapping of
docs/examples and the command do. The service is a process of its own with its own clock, years later.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import server
from tests.engine.test_real_input import FILES, FIRST, LAST

MAPPING = server.ROOT / "docs" / "examples" / "online-retail.toml"
SECRET = "import-secret-key"


def _owners(path: Path) -> set[str]:
    """Whose the invoices are, read without the mapping."""
    with path.open(encoding="utf-8", newline="") as file:
        return {
            line["CustomerID"].removesuffix(".0") or f"anon_invoice-{line['InvoiceNo']}"
            for line in csv.DictReader(file)
        }


def _import(path: Path, url: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "service", "import", str(path), "--url", url, "--mapping", str(MAPPING)],
        cwd=server.ROOT,
        env=os.environ | {"FOOTFALL_SECRET_KEY": SECRET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {row[:11].strip(): row[11:].strip().replace(",", "") for row in done.stdout.splitlines()}


def _sums(client: httpx.Client, owners: set[str]) -> dict[str, dict[str, Decimal]]:
    sums: dict[str, dict[str, Decimal]] = {}
    for owner in owners:
        reply = client.get(f"/v1/users/{owner}/metrics", params={"from": FIRST, "to": LAST})
        assert reply.status_code == 200, reply.text
        body: dict[str, Any] = json.loads(reply.text, parse_float=Decimal)
        for numbers in [*body["days"], {"day": "ALL"} | body["totals"]]:
            assert {*numbers["revenue"], *numbers["refunds"]} <= {"GBP"}
            sum_of_day = sums.setdefault(numbers["day"], {})
            for name, number in (
                ("orders", numbers["orders"]),
                ("order_revenue_gbp", numbers["revenue"].get("GBP", 0)),
                ("cancellations", numbers["refundedOrders"]),
                ("cancelled_gbp", -numbers["refunds"].get("GBP", 0)),
                ("customers_with_orders", not owner.startswith("anon_") and numbers["orders"] > 0),
            ):
                sum_of_day[name] = sum_of_day.get(name, Decimal(0)) + number
    return sums


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_an_imported_file_sums_up_to_its_orders_day_by_day(
    dynamodb_url: str, tmp_path: Path, path: Path
) -> None:
    with FILES[path].open(encoding="utf-8", newline="") as file:
        expected = {
            row.pop("day"): {name: Decimal(number) for name, number in row.items() if name != "lines"}
            for row in csv.DictReader(file)
        }
    # The command writes beside the file.
    copy = tmp_path / path.name
    shutil.copyfile(path, copy)
    environment = {
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_url,
        "FOOTFALL_TABLE": f"import-{uuid.uuid4().hex}",
        "FOOTFALL_SECRET_KEY_HASHES": hashlib.sha256(SECRET.encode()).hexdigest(),
    }
    with (
        server.running(environment) as started,
        httpx.Client(
            base_url=started.url,
            headers={"Authorization": f"Bearer {SECRET}"},
            trust_env=False,
            timeout=60,
        ) as client,
    ):
        first = _import(copy, started.url)
        again = _import(copy, started.url)
        sums = _sums(client, _owners(path))

    events = int(expected["ALL"]["orders"] + expected["ALL"]["cancellations"])
    assert (int(first["accepted"]), first["duplicates"][:1]) == (events, "0")
    assert (int(again["accepted"]), int(again["duplicates"])) == (0, events)
    assert sums == expected
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
