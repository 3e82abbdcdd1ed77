"""template.yaml against the service it deploys, and against what a deployment may never hold."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import iter_route_contexts

import service
from service.app import create_app
from service.dynamodb import Table
from service.settings import VARIABLES, Settings, SettingsError, load_settings

ROOT = Path(__file__).resolve().parent.parent.parent

# What the default stack is made of. Each is billed by use alone; a type that is not here needs a look at its price.
PAID_BY_USE = {
    "AWS::Serverless::HttpApi",
    "AWS::Serverless::Function",
    "AWS::DynamoDB::Table",
    "AWS::IAM::Role",
    "AWS::Logs::LogGroup",
}
# What some parameter adds, and costs something by the hour, however little. Never without being asked for.
ON_REQUEST = {"AWS::Events::Rule", "AWS::Lambda::Permission"}
# What an OpenSearch cluster's address adds (test_template_search.py).
WITH_SEARCH = {
    "AWS::CloudWatch::Alarm",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::Serverless::Function",
}
# Settings that make one of these cost money while nobody shops.
PAID_WHILE_IDLE = {
    "ProvisionedConcurrencyConfig",
    "ProvisionedThroughput",
    "SnapStart",
    "VpcConfig",
    "KMSMasterKeyId",
    "KmsKeyArn",
    "KmsKeyId",
    "GlobalSecondaryIndexes",
    "ContributorInsightsSpecification",
}


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as their long ones."""


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


def read_template() -> dict[str, Any]:
    """template.yaml as CloudFormation reads it."""
    template: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), _Loader)
    return template


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return read_template()


@pytest.fixture(scope="module")
def function(template: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = template["Resources"]["HttpFunction"]["Properties"]
    return properties


def everything_in(value: Any) -> list[Any]:
    """Every key and every value, at any depth."""
    if isinstance(value, dict):
        return [*value, *(found for inner in value.values() for found in everything_in(inner))]
    if isinstance(value, list):
        return [found for inner in value for found in everything_in(inner)]
    return [value]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_gateway_routes_are_the_routes_of_the_service(function: dict[str, Any]) -> None:
    app = create_app(Settings(), Table(client=None, name="unused"), now=lambda: datetime.now(UTC))
    served = {
        (method, route.path) for route in iter_route_contexts(app.routes) for method in route.methods or ()
    }
    events = [event["Properties"] for event in function["Events"].values()]
    routed = {(event["Method"], event["Path"]) for event in events}

    assert len(routed) == len(events), "a route is listed twice"
    assert without_names(served) == without_names(routed)


def without_names(routes: Iterable[tuple[str, str | None]]) -> set[tuple[str, str]]:
    """Routes with `{}` for every path parameter: `{userId}` in the template is `{user_id}` in Python."""
    return {(method, re.sub(r"{[^}]+}", "{}", path or "")) for method, path in routes}


def test_every_event_is_a_route_of_the_one_api(function: dict[str, Any]) -> None:
    for name, event in function["Events"].items():
        assert event["Type"] == "HttpApi", name
        assert event["Properties"]["ApiId"] == {"Ref": "HttpApi"}, name


def test_every_variable_of_the_service_is_declared_and_no_other(function: dict[str, Any]) -> None:
    declared = {name for name in function["Environment"]["Variables"] if name.startswith("FOOTFALL_")}

    assert declared == set(VARIABLES)


def test_raw_events_are_kept_when_the_stack_says_so_and_not_by_default(
    template: dict[str, Any], function: dict[str, Any]
) -> None:
    parameter, days = template["Parameters"]["RawEvents"], template["Parameters"]["RawTtlDays"]
    variables = function["Environment"]["Variables"]

    assert (variables["FOOTFALL_RAW_EVENTS"], variables["FOOTFALL_RAW_TTL_DAYS"]) == (
        {"Ref": "RawEvents"},
        {"Ref": "RawTtlDays"},
    )
    assert (parameter["Default"], parameter["AllowedValues"]) == ("false", ["true", "false"])
    for text in parameter["AllowedValues"]:
        assert load_settings({"FOOTFALL_RAW_EVENTS": text}).raw_events == (text == "true")
    assert days["Default"] == Settings().raw_ttl_days
    for number in (days["MinValue"], days["MaxValue"]):
        assert load_settings({"FOOTFALL_RAW_TTL_DAYS": str(number)}).raw_ttl_days == number
    for number in (days["MinValue"] - 1, days["MaxValue"] + 1):
        with pytest.raises(SettingsError):
            load_settings({"FOOTFALL_RAW_TTL_DAYS": str(number)})


def test_with_raw_events_the_sweep_is_on(template: dict[str, Any]) -> None:
    """It removes what a request that was under way during an erasure has put there since."""
    for raw_events in ("true", "false"):
        for sweep in ("true", "false"):
            given = {"RawEvents": raw_events, "Sweep": sweep}
            assert holds(template, "HasSweep", given) == ("true" in given.values()), given


def test_keys_are_not_echoed(template: dict[str, Any]) -> None:
    for name in ("WriteKeys", "SecretKeyHashes", "IdentitySecret", "OpenSearchUrl"):
        assert template["Parameters"][name]["NoEcho"] is True, name


def test_every_parameter_is_used_and_says_what_it_is_for(template: dict[str, Any]) -> None:
    used = {value["Ref"] for value in mappings_in(template) if isinstance(value.get("Ref"), str)}

    assert set(template["Parameters"]) <= used
    assert all(parameter.get("Description") for parameter in template["Parameters"].values())


def mappings_in(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value, *(found for inner in value.values() for found in mappings_in(inner))]
    if isinstance(value, list):
        return [found for inner in value for found in mappings_in(inner)]
    return []


def test_nothing_is_paid_for_while_nobody_shops(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    default = {
        name: resource for name, resource in resources.items() if not is_on_request(template, resource)
    }

    assert {resource["Type"] for resource in default.values()} <= PAID_BY_USE
    assert {resources[name]["Type"] for name in resources.keys() - default.keys()} == ON_REQUEST | WITH_SEARCH
    assert [name for name in default if resources[name]["Type"] == "AWS::Serverless::Function"] == [
        "HttpFunction"
    ]
    assert not PAID_WHILE_IDLE & {found for found in everything_in(resources) if isinstance(found, str)}
    assert resources["Table"]["Properties"]["BillingMode"] == "PAY_PER_REQUEST"


def is_on_request(template: dict[str, Any], resource: dict[str, Any]) -> bool:
    """Whether a parameter must be set, which by default is not, before there is such a resource."""
    return "Condition" in resource and not holds(template, resource["Condition"], {})


def holds(template: dict[str, Any], name: str, given: dict[str, str]) -> bool:
    """Whether a condition does, with these parameters and the defaults of the others."""
    return _holds(template, template["Conditions"][name], given)


def _holds(template: dict[str, Any], condition: dict[str, Any], given: dict[str, str]) -> bool:
    ((kind, operands),) = condition.items()
    if kind == "Condition":
        return holds(template, operands, given)
    if kind == "Fn::Equals":
        name = operands[0]["Ref"]
        return bool(given.get(name, template["Parameters"][name]["Default"]) == operands[1])
    each = (_holds(template, operand, given) for operand in operands)
    if kind == "Fn::Not":
        return not next(each)
    assert kind in ("Fn::Or", "Fn::And")
    return any(each) if kind == "Fn::Or" else all(each)


def test_the_sweep_is_off_unless_asked_for_and_invokes_this_function_alone(template: dict[str, Any]) -> None:
    rule, permission = (template["Resources"][name] for name in ("SweepSchedule", "SweepPermission"))
    (target,) = rule["Properties"]["Targets"]

    assert template["Parameters"]["Sweep"]["Default"] == "false"
    assert rule["Condition"] == permission["Condition"] == "HasSweep"
    assert target["Arn"] == {"Fn::GetAtt": "HttpFunction.Arn"}
    assert permission["Properties"] == {
        "Action": "lambda:InvokeFunction",
        "FunctionName": {"Ref": "HttpFunction"},
        "Principal": "events.amazonaws.com",
        "SourceArn": {"Fn::GetAtt": "SweepSchedule.Arn"},
    }
    assert set(json.loads(target["Input"])) == {"task"}


def test_the_function_may_do_what_it_does_and_nothing_else(
    template: dict[str, Any], function: dict[str, Any]
) -> None:
    role = template["Resources"]["HttpFunctionRole"]["Properties"]
    statements = [
        statement for policy in role["Policies"] for statement in policy["PolicyDocument"]["Statement"]
    ]
    allowed = {
        action: statement["Resource"] for statement in statements for action in as_list(statement["Action"])
    }
    table, log = {"Fn::GetAtt": "Table.Arn"}, {"Fn::GetAtt": "HttpFunctionLogGroup.Arn"}

    assert "ManagedPolicyArns" not in role
    assert function["Role"] == {"Fn::GetAtt": "HttpFunctionRole.Arn"}
    assert allowed == {
        "dynamodb:GetItem": table,
        "dynamodb:BatchGetItem": table,
        "dynamodb:Query": table,
        "dynamodb:UpdateItem": table,
        "dynamodb:PutItem": table,
        "dynamodb:DeleteItem": table,
        "dynamodb:BatchWriteItem": table,
        "dynamodb:ConditionCheckItem": table,
        "logs:CreateLogStream": log,
        "logs:PutLogEvents": log,
    }


def test_the_gateway_answers_preflights_as_the_sdks_need(template: dict[str, Any]) -> None:
    cors = template["Resources"]["HttpApi"]["Properties"]["CorsConfiguration"]

    assert cors == {
        "AllowOrigins": {"Fn::Split": [",", {"Ref": "AllowedOrigins"}]},
        "AllowMethods": ["GET", "POST", "OPTIONS"],
        "AllowHeaders": ["authorization", "content-type", "x-retry-count"],
        "ExposeHeaders": ["Date", "Retry-After", "Footfall-Capacity"],
        "MaxAge": 7200,
        "AllowCredentials": False,
    }
    assert template["Parameters"]["AllowedOrigins"]["Default"] == "*"


def test_the_gateway_throttles_every_route(template: dict[str, Any]) -> None:
    settings = template["Resources"]["HttpApi"]["Properties"]["DefaultRouteSettings"]
    parameters = template["Parameters"]

    assert settings == {
        "ThrottlingRateLimit": {"Ref": "RequestsPerSecond"},
        "ThrottlingBurstLimit": {"Ref": "RequestsBurst"},
    }
    assert (parameters["RequestsPerSecond"]["Default"], parameters["RequestsBurst"]["Default"]) == (50, 100)


def test_the_bound_on_writes_is_there_where_it_is_asked_for(template: dict[str, Any]) -> None:
    bound = template["Resources"]["Table"]["Properties"]["OnDemandThroughput"]
    written = {"MaxWriteRequestUnits": {"Ref": "WriteUnitsPerSecond"}}

    assert bound == {"Fn::If": ["IsWriteBounded", written, {"Ref": "AWS::NoValue"}]}
    assert template["Conditions"]["IsWriteBounded"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "WriteUnitsPerSecond"}, 0]}]
    }
    assert template["Parameters"]["WriteUnitsPerSecond"]["Default"] == 0


def test_the_function_gives_up_before_the_gateway_does(
    template: dict[str, Any], function: dict[str, Any]
) -> None:
    timeout = template["Parameters"]["TimeoutSeconds"]

    assert function["Timeout"] == {"Ref": "TimeoutSeconds"}
    # An HTTP API waits 30 s and no setting makes it wait longer.
    assert timeout["Default"] <= timeout["MaxValue"] < 30


def test_the_table_outlives_the_stack_unless_told_otherwise(template: dict[str, Any]) -> None:
    table = template["Resources"]["Table"]
    parameters = template["Parameters"]

    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == {"Ref": "TableRetention"}
    assert template["Transform"][0] == "AWS::LanguageExtensions", "a DeletionPolicy is a literal without it"
    assert parameters["TableRetention"]["Default"] == "Retain"
    assert parameters["DeletionProtection"]["Default"] == "true"


def test_the_table_has_the_keys_and_the_ttl_of_the_data_model(template: dict[str, Any]) -> None:
    table = template["Resources"]["Table"]["Properties"]

    assert table["KeySchema"] == [
        {"AttributeName": "PK", "KeyType": "HASH"},
        {"AttributeName": "SK", "KeyType": "RANGE"},
    ]
    assert {key["AttributeType"] for key in table["AttributeDefinitions"]} == {"S"}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}


def test_the_description_holds_the_version(template: dict[str, Any]) -> None:
    assert template["Description"].startswith(f"Footfall {service.__version__}:")
    assert template["Outputs"]["Version"]["Value"] == service.__version__


def test_the_makefile_builds_for_what_the_template_runs_on(
    template: dict[str, Any], function: dict[str, Any]
) -> None:
    makefile = (ROOT / "Makefile").read_text()
    defaults = dict(re.findall(r"^(LAMBDA_\w+) \?= (\S+)$", makefile, re.MULTILINE))

    assert function["Runtime"] == f"python{defaults['LAMBDA_PYTHON']}"
    assert template["Parameters"]["Architecture"]["Default"] == defaults["LAMBDA_ARCHITECTURE"]


def test_every_stage_sets_parameters_that_exist_to_values_they_allow(template: dict[str, Any]) -> None:
    stages = tomllib.loads((ROOT / "samconfig.toml").read_text())
    overrides = {
        name: stages[name]["deploy"]["parameters"]["parameter_overrides"] for name in ("dev", "prod")
    }
    given = [pair.split("=") for text in overrides.values() for pair in text.split()]

    for name, value in given:
        allowed = template["Parameters"][name]["AllowedValues"]
        assert value in map(str, allowed), f"{name}={value}"
