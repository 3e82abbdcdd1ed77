"""What is stored, and that its names are written once."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import keys, models
from service.metrics import COUNTERS
from service.models import AllOf, DayItem, ErasedBefore, Item, NumberFamily, stored_day

SERVICE = Path(models.__file__).parent
MODELS = [found for found in vars(models).values() if isinstance(found, type) and issubclass(found, Item)]
FAMILIES = {name: family for name, family in vars(DayItem).items() if isinstance(family, NumberFamily)}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128) | st.sampled_from(
    ["a.b", "a[0]", "%", "%2E", "%C3%A9", "a#b", "revenue#EUR", "event#x", "\x00", "é", "💶", "a%"]
)


def test_every_counter_is_an_attribute() -> None:
    attributes = DayItem.get_attributes()

    assert set(COUNTERS) <= set(attributes)
    assert set(COUNTERS) == set(models.COUNTER_ATTRIBUTES)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@given(member=NAMES)
def test_a_member_of_a_family_reads_back_as_itself(family: NumberFamily, member: str) -> None:
    name = family[member].attr_name

    assert member == family.member(name)
    assert [name] == family[member].attr_path, "PynamoDB would take it for a path"
    assert [other.member(name) for other in FAMILIES.values()].count(None) == len(FAMILIES) - 1


@given(NAMES, NAMES)
def test_two_members_never_share_an_attribute(one: str, other: str) -> None:
    family = FAMILIES["by_event"]

    assert (one == other) == (family[one].attr_name == family[other].attr_name)


@given(st.dictionaries(NAMES, st.integers(0, 10**18), max_size=5), st.integers(0, 10**6))
def test_a_day_item_reads_back(by_event: dict[str, int], orders: int) -> None:
    raw: dict[str, dict[str, Any]] = {
        "PK": {"S": "USER#u"},
        "SK": {"S": keys.day_key("u", "2026-11-22").sk},
        "orders": {"N": str(orders)},
        "revenue#EUR": {"N": "5990"},
        "seen": {"BS": [b"123456"]},
        "sessions": {"BS": [b"654321"]},
        "names": {"SS": ["a"]},
        "currencies": {"SS": ["EUR"]},
        "revision": {"N": "3"},
    }
    raw |= {DayItem.by_event[name].attr_name: {"N": str(count)} for name, count in by_event.items()}
    day = stored_day(raw)

    assert (day.day, day.revision, day.merged_into, day.full) == ("2026-11-22", 3, None, False)
    assert day.metrics.counters == {"orders": orders}
    assert by_event == day.metrics.by_event
    assert (day.metrics.revenue_minor, day.metrics.refunds_minor) == ({"EUR": 5990}, {})
    assert (day.seen, day.metrics.sessions) == ({b"123456"}, {b"654321"})
    assert (day.names, day.currencies) == ({"a"}, {"EUR"})


def test_a_seal_reads_back() -> None:
    day = stored_day(
        {
            "PK": {"S": "USER#anon_a"},
            "SK": {"S": "DAY#2026-11-22"},
            "mergedInto": {"S": "u"},
            "expiresAt": {"N": "9"},
        }
    )

    assert (day.merged_into, day.revision, day.metrics.counters, day.seen) == ("u", None, {}, set())


def test_a_seal_knows_its_merge_and_a_fence_its_erasure() -> None:
    keys_ = {"PK": {"S": "USER#anon_a"}, "SK": {"S": "DAY#2026-11-22"}}
    seal = stored_day(
        {**keys_, "mergedInto": {"S": "u"}, "startedAt": {"S": "2026-11-22T12:00:00.000+00:00"}}
    )
    fence = stored_day({**keys_, "erasedAt": {"N": "1795348800000"}, "orderIds": {"SS": ["o"]}})

    assert (seal.merge_began_ms, seal.erased_at) == (1795348800000, 0)
    assert (fence.merged_into, fence.erased_at, fence.metrics.order_ids) == (None, 1795348800000, {"o"})


def test_a_moment_after_the_erasure_is_one_condition() -> None:
    names: dict[str, str] = {"seen": "#0"}
    values: dict[str, Any] = {":0": {"N": "1"}}
    text = AllOf(ErasedBefore(7), DayItem.full.does_not_exist()).serialize(names, values)

    assert text == "(attribute_not_exists (#1) OR #1 < :1) AND attribute_not_exists (#2)"
    assert (names, values) == (
        {"seen": "#0", "erasedAt": "#1", "full": "#2"},
        {":0": {"N": "1"}, ":1": {"N": "7"}},
    )


def test_ninety_conditions_are_joined_without_nesting() -> None:
    names: dict[str, str] = {}
    values: dict[str, Any] = {}
    text = AllOf(*(~DayItem.seen.contains(bytes([number])) for number in range(90))).serialize(names, values)

    assert text.count(" AND ") == 89
    assert names == {"seen": "#0"}
    assert len(values) == 90


# --- a stored name is written once -----------------------------------------------------------------------------------

# These speak of the wire, where some words are the same: `userId`, `events`, `sessions`.
WIRE = {
    "events",
    "metrics",
    "openapi",
    "examples",
    "replies",
    "reply_models",
    "request_models",
    "routes",
    "user_routes",
    "timeline",
    "recount",
    "wire",
    "ids",
    "money",
    "settings",
    "app",
    "assets",
    "logs",
}
WIRE |= {
    "columns",
    "mapping",
    "exporting",
    "auth",
    "problems",
    "service",
    "dev",
    "__main__",
    "lambda_http",
    "__init__",
    "capacity",
    "ingest",
    "gateway",
}
# Fields of documents and requests of the search, and what the engine answers.
WIRE |= {
    "bulk",
    "documents",
    "index_template",
    "rebuild",
    "search_queries",
    "search_requests",
    "search_segments",
}
# The words that only the table knows.
STORED_ONLY = {"PK", "SK", "expiresAt", "mergedInto", "startedAt", "seen", "revision"}


def stored_names() -> set[str]:
    names = {attribute.attr_name for model in MODELS for attribute in model.get_attributes().values()}
    return names | {family.prefix for family in FAMILIES.values()}


def constants(module: Path) -> list[tuple[int, str]]:
    """The string constants of a module's code, with their lines; docstrings are prose."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]


@pytest.mark.parametrize(
    "module", sorted(path.stem for path in SERVICE.glob("*.py") if path.stem not in ("models", "keys"))
)
def test_no_module_but_models_and_keys_writes_a_stored_name(module: str) -> None:
    names = stored_names()
    assert names >= STORED_ONLY
    # A metric's Python name may be the word under which it is stored; what is asked for then is the metric.
    forbidden = STORED_ONLY if module in WIRE else names - set(COUNTERS)
    written = [
        (line, text)
        for line, text in constants(SERVICE / f"{module}.py")
        if text in forbidden or text.startswith(tuple(name for name in forbidden if name.endswith("#")))
    ]

    assert written == []


def test_models_themselves_name_each_attribute_once() -> None:
    for model in MODELS:
        own = [attribute.attr_name for attribute in model.get_attributes().values()]

        assert len(own) == len(set(own)), model.__name__
