"""The errors a client can see."""

from __future__ import annotations

import inspect
import json
import re

import pytest

from service import problems
from service.problems import Problem

CLASSES: list[type[Problem]] = [
    found
    for found in vars(problems).values()
    if inspect.isclass(found) and issubclass(found, Problem) and found is not Problem
]


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = re.findall(r"[├└]── (\w+) +(\d{3})  ([\w, ]+)", problems.__doc__ or "")

    assert {found.__name__ for found in CLASSES} == {name for name, _, _ in drawn}
    for name, status, codes in drawn:
        found = getattr(problems, name)
        assert int(status) == found.status, name
        assert found.code in codes.split(", "), name


@pytest.mark.parametrize("found", CLASSES)
def test_a_body_is_small_and_complete(found: type[Problem]) -> None:
    problem = found()
    body = json.loads(problem.body())

    assert set(body) == {"type", "title", "status", "detail", "code", "message"}
    assert all(body.values())
    assert body["detail"] == body["message"]
    assert problem.status == body["status"]
    assert f"urn:footfall:problem:{body['code']}" == body["type"]
    assert len(problem.body()) < 1024


def test_what_can_be_sent_again_says_when() -> None:
    assert int(problems.Unavailable().headers["Retry-After"]) > 0


def test_two_problems_share_no_headers() -> None:
    problems.MethodNotAllowed().headers["Allow"] = "GET"

    assert problems.MethodNotAllowed().headers == {}
