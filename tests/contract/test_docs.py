"""What the pages say is so: examples, codes, links, and the commands they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from fastapi.routing import iter_route_contexts

from engines import __main__ as engines
from service import keys
from service.__main__ import main
from service.app import create_app
from service.dynamodb import Table
from service.models import Item
from service.settings import VARIABLES, SettingsError, load_settings
from tests import docs_examples, opensearch_local
from tests.builders import make_settings
from tests.codes import problem_statuses, rejection_codes
from tests.contract.test_template import read_template
from tests.pages import PAGES, ROOT, anchor, commands, headings, links, prose

ERRORS = ROOT / "docs" / "errors.md"
SETTINGS = ROOT / "docs" / "settings.md"
REJECTED = "rejected: "


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rendered(dynamodb_client: Any, opensearch_url: str) -> dict[str, docs_examples.Rendered]:
    found = {}
    for page in docs_examples.PAGES:
        with opensearch_local.connected(opensearch_url) as engine:
            text = (docs_examples.DOCS / page).read_text(encoding="utf-8")
            found[page] = docs_examples.render(text, dynamodb_client, engine)
    return found


@pytest.mark.parametrize("page", docs_examples.PAGES)
def test_the_examples_are_what_the_service_does(
    rendered: dict[str, docs_examples.Rendered], page: str
) -> None:
    written = (docs_examples.DOCS / page).read_text(encoding="utf-8")

    assert rendered[page].text == written, "python -m tests.docs_examples --write puts it right"


def test_every_route_has_an_example(rendered: dict[str, docs_examples.Rendered]) -> None:
    app = create_app(make_settings(), Table(client=None, name="unused"))
    served = {
        (method, route.path) for route in iter_route_contexts(app.routes) for method in route.methods or ()
    }
    text = (docs_examples.DOCS / "api.md").read_text(encoding="utf-8")
    without = {
        (method, path)
        for method, path in served - set(rendered["api.md"].requests)
        if f"`{method} {path}`" not in text
    }

    # The short paths share a line of the table with the long ones; /docs loads its own assets.
    assert {path for _, path in without} == {
        "/docs/{asset}",
        *(f"/v1/{short}" for short in "btpsiag"),
    }
    assert all(f"`/{short}`" in text or f"`/v1/{short}`" in text for short in "btpsiag")


def test_every_kind_of_item_has_an_example(rendered: dict[str, docs_examples.Rendered]) -> None:
    built = {name for name in vars(keys) if name.endswith("_key")}
    shown = {_kind(sk) for _, sk in rendered["data-model.md"].items}

    # A mark is an alias or an erasure.
    assert built - {"mark_key"} == shown


def _kind(sk: str) -> str:
    """Which function of `keys` made a sort key."""
    starts = {
        "DAY#": "day_key",
        "ALIAS#": "way_back_key",
        "ALIAS": "alias_key",
        "ERASED": "erased_key",
        "ORDER": "order_key",
        "SETTINGS": "settings_key",
        "EVENTS#": "events_key",
    }
    return next((kind for start, kind in starts.items() if sk.startswith(start)), "pending_key")


def test_every_attribute_is_explained() -> None:
    text = _data_model()
    shown = {
        attribute.attr_name
        for model in Item.__subclasses__()
        for attribute in model.get_attributes().values()
    }
    explained = set(re.findall(r"`(\w+)`|\"(\w+)\":", text))
    words = {word for pair in explained for word in pair if word}

    # The counters are those of the replies, and the reply in api.md has them all.
    counters = set(re.findall(r'"(\w+)": \d+', (docs_examples.DOCS / "api.md").read_text(encoding="utf-8")))
    assert shown - words - counters == set()


def _data_model() -> str:
    return (docs_examples.DOCS / "data-model.md").read_text(encoding="utf-8")


# --- codes ------------------------------------------------------------------------------------------------------------


def test_every_code_has_its_heading_and_every_heading_its_code() -> None:
    found = headings(ERRORS, 3)

    assert len(found) == len(set(found))
    assert {heading for heading in found if not heading.startswith(REJECTED)} == set(problem_statuses())
    assert {
        heading.removeprefix(REJECTED) for heading in found if heading.startswith(REJECTED)
    } == rejection_codes()


def test_a_problem_is_explained_under_its_own_status() -> None:
    written = re.findall(r"^### (\w+)\n\n\*\*(\d{3})\.\*\* ", prose(ERRORS), re.MULTILINE)

    assert {code: int(status) for code, status in written} == problem_statuses()


# --- settings ---------------------------------------------------------------------------------------------------------


def settings_table(number: int) -> dict[str, list[str]]:
    """The rows of a table of settings.md by their first cell, without the marks of code."""
    text = SETTINGS.read_text(encoding="utf-8")
    tables = re.findall(r"((?:^\|.*\|\n)+)", text, re.MULTILINE)
    rows = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")]
        for line in tables[number].splitlines()[2:]
    ]
    return {row[0].strip("| "): [cell.strip("| ") for cell in row[1:]] for row in rows}


def test_every_variable_is_in_the_table_with_its_parameter_and_default() -> None:
    template = read_template()
    set_to = template["Resources"]["HttpFunction"]["Properties"]["Environment"]["Variables"]
    defaults = load_settings({})
    table = settings_table(0)

    assert list(table) == list(VARIABLES)
    for variable, (parameter, default, _, deed) in table.items():
        field = variable.removeprefix("FOOTFALL_").lower()
        found = getattr(defaults, field, None)
        found = getattr(found, "key", found)
        found = str(found).lower() if isinstance(found, bool) else found
        found = ",".join(found) if isinstance(found, tuple | frozenset) else found
        assert default == str("none" if found in (None, "") else found), variable
        assert deed, variable
        if parameter in template["Parameters"]:
            assert set_to[variable] == {"Ref": parameter}, variable
            assert str(template["Parameters"][parameter].get("Default", "")) == default.replace("none", "")
        else:
            assert set_to[variable] in ("", {"Ref": "Table"}), variable


@pytest.mark.parametrize("variable", ["FOOTFALL_MAX_EVENT_AGE_DAYS", "FOOTFALL_MAX_EVENTS_PER_USER_DAY"])
def test_a_range_of_a_variable_is_what_it_may_be(variable: str) -> None:
    parameter, _, span, _ = settings_table(0)[variable]
    least, most = map(int, span.split(" to "))
    declared = read_template()["Parameters"][parameter]

    assert (declared["MinValue"], declared["MaxValue"]) == (least, most)
    for value in (least, most):
        load_settings({variable: str(value)})
    for value in (least - 1, most + 1):
        with pytest.raises(SettingsError, match=f"{variable}: a whole number from {least} to {most}"):
            load_settings({variable: str(value)})


def test_every_other_parameter_is_in_the_table_with_its_default_and_range() -> None:
    parameters = read_template()["Parameters"]
    table = settings_table(1)

    assert set(table) == set(parameters) - {row[0] for row in settings_table(0).values()}
    for name, (default, span, deed) in table.items():
        declared = parameters[name]
        allowed = declared.get("AllowedValues")
        bounds = f"{declared.get('MinValue')} to {declared.get('MaxValue')}".replace("to None", "and more")
        assert default == (str(declared["Default"]) or "none"), name
        # What a text may be is said in words.
        if allowed or declared["Type"] == "Number":
            assert span == ", ".join(map(str, allowed or [bounds])), name
        assert span, name
        assert deed, name


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_variable_that_a_page_names_is_explained(page: Path) -> None:
    named = set(re.findall(r"\bFOOTFALL_[A-Z_]+[A-Z]\b", page.read_text(encoding="utf-8")))

    assert named <= set(re.findall(r"\bFOOTFALL_[A-Z_]+[A-Z]\b", SETTINGS.read_text(encoding="utf-8")))


# --- links and commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, fragment = link.partition("#")
        led_to = (page.parent / target).resolve() if target else page
        assert led_to.is_relative_to(ROOT), link
        assert led_to.exists(), link
        if fragment:
            assert fragment in {anchor(heading) for heading in headings(led_to)}, link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_exists(page: Path) -> None:
    """Of make, of the service and of the engines, also where prose names one."""
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert isinstance(main, click.Group)

    for target in re.findall(r"(?:`|^\$ |\$ .*=\S+ )make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, target
    for command in re.findall(r"python -m service ([a-z]+)", text):
        assert command in main.commands, command
    for command in re.findall(r"python -m engines ([a-z]+)", text):
        assert command in engines.COMMANDS, command
    for module in re.findall(r"python -m (tests(?:\.\w+)+)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_console_block_can_be_read(page: Path) -> None:
    for command in commands(page):
        assert shlex.split(command.text, comments=True)
