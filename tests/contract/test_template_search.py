"""What template.yaml adds for search: all of it opt-in, and of each right no more than is used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service import changes, dynamodb, stream
from service.settings import VARIABLES, Settings, load_settings
from tests.contract.test_template import as_list, holds, read_template

URL = "https://search.example:9200"
GIVEN = {"OpenSearchUrl": URL, "RawEvents": "true"}
RESOURCES = (
    "IndexerFunction",
    "IndexerStream",
    "IndexerFailures",
    "IndexerFailuresPolicy",
    "IndexerRole",
    "IndexerLogGroup",
    "IndexerAlarm",
)
STREAM = {"Fn::GetAtt": "Table.StreamArn"}
BUCKET = {"Fn::GetAtt": "IndexerFailures.Arn"}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return read_template()


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"]
    return found


@pytest.fixture(scope="module")
def indexer(resources: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = resources["IndexerFunction"]["Properties"]
    return properties


def test_all_of_it_is_there_with_the_address_of_a_cluster_alone(
    template: dict[str, Any], resources: dict[str, Any]
) -> None:
    for name in RESOURCES:
        assert resources[name]["Condition"] == "HasSearch", name
    for name in ("SearchPolicy", "IndexerSearchPolicy"):
        assert resources[name]["Condition"] == "HasDomain", name
    assert not holds(template, "HasSearch", {})
    assert holds(template, "HasSearch", GIVEN)
    assert not holds(template, "HasDomain", GIVEN), "a cluster of one's own is nothing of AWS's"
    assert holds(template, "HasDomain", {**GIVEN, "OpenSearchDomainArn": "arn"})
    assert not holds(template, "HasDomain", {"OpenSearchDomainArn": "arn"})


def test_the_table_has_a_stream_only_then(resources: dict[str, Any]) -> None:
    declared = resources["Table"]["Properties"]["StreamSpecification"]["Fn::If"]

    assert declared == ["HasSearch", {"StreamViewType": "NEW_IMAGE"}, {"Ref": "AWS::NoValue"}]
    assert dynamodb._STREAM["StreamViewType"] == "NEW_IMAGE"


def test_a_stack_with_search_and_without_raw_events_is_refused(template: dict[str, Any]) -> None:
    (rule,) = template["Rules"].values()

    assert rule["RuleCondition"] == template["Conditions"]["HasSearch"]
    assert [one["Assert"] for one in rule["Assertions"]] == [template["Conditions"]["HasRawEvents"]]


def test_the_indexer_is_told_what_it_reads_and_the_same_as_the_service(
    resources: dict[str, Any], indexer: dict[str, Any]
) -> None:
    told = indexer["Environment"]["Variables"]
    service = resources["HttpFunction"]["Properties"]["Environment"]["Variables"]

    assert {name for name in told if name.startswith("FOOTFALL_")} <= set(VARIABLES)
    assert {name: service[name] for name in told} == told
    # It holds no keys of the API.
    assert not {"FOOTFALL_WRITE_KEYS", "FOOTFALL_SECRET_KEY_HASHES", "FOOTFALL_IDENTITY_SECRET"} & set(told)


def test_parameters_take_what_the_settings_take(template: dict[str, Any]) -> None:
    parameters = template["Parameters"]
    environment = {"FOOTFALL_OPENSEARCH_URL": URL, "FOOTFALL_RAW_EVENTS": "true"}

    assert parameters["OpenSearchUrl"]["Default"] == ""
    assert load_settings(environment).opensearch_url == URL
    for name, variable, setting in (
        ("SearchRetentionDays", "FOOTFALL_SEARCH_RETENTION_DAYS", "search_retention_days"),
        ("SearchReplicas", "FOOTFALL_SEARCH_REPLICAS", "search_replicas"),
    ):
        assert parameters[name]["Default"] == getattr(Settings(), setting)
        for number in (parameters[name]["MinValue"], parameters[name]["MaxValue"]):
            assert getattr(load_settings({**environment, variable: str(number)}), setting) == number


def test_the_stream_brings_what_the_indexer_takes_and_begins_at_the_oldest(resources: dict[str, Any]) -> None:
    mapping = resources["IndexerStream"]["Properties"]
    (one,) = mapping["FilterCriteria"]["Filters"]

    assert json.loads(one["Pattern"]) == changes.FILTER
    assert mapping["EventSourceArn"] == STREAM
    assert mapping["FunctionName"] == {"Ref": "IndexerFunction"}
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BatchSize"] == stream.BATCH_RECORDS_MAX


def test_what_fails_is_tried_again_until_it_would_be_lost_and_is_kept_then(resources: dict[str, Any]) -> None:
    mapping = resources["IndexerStream"]["Properties"]

    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["MaximumRetryAttempts"] == -1
    assert 3600 < mapping["MaximumRecordAgeInSeconds"] < 24 * 3600, "the stream keeps a record for a day"
    assert mapping["ParallelizationFactor"] == 1
    assert mapping["DestinationConfig"] == {"OnFailure": {"Destination": BUCKET}}


def test_the_bucket_is_nobody_elses_and_forgets(resources: dict[str, Any]) -> None:
    bucket = resources["IndexerFailures"]["Properties"]
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]

    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 30)
    assert resources["IndexerFailures"]["DeletionPolicy"] == {"Ref": "TableRetention"}


def test_the_indexer_may_do_what_it_does_and_nothing_else(resources: dict[str, Any]) -> None:
    role = resources["IndexerRole"]["Properties"]
    allowed = {
        action: statement["Resource"]
        for policy in role["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        for action in as_list(statement["Action"])
    }

    assert "ManagedPolicyArns" not in role
    assert resources["IndexerFunction"]["Properties"]["Role"] == {"Fn::GetAtt": "IndexerRole.Arn"}
    assert allowed == {
        "dynamodb:DescribeStream": STREAM,
        "dynamodb:GetRecords": STREAM,
        "dynamodb:GetShardIterator": STREAM,
        "dynamodb:ListStreams": {"Fn::Sub": "${Table.Arn}/stream/*"},
        "dynamodb:GetItem": {"Fn::GetAtt": "Table.Arn"},
        "dynamodb:BatchGetItem": {"Fn::GetAtt": "Table.Arn"},
        "s3:PutObject": {"Fn::Sub": "${IndexerFailures.Arn}/*"},
        "s3:ListBucket": BUCKET,
        "logs:CreateLogStream": {"Fn::GetAtt": "IndexerLogGroup.Arn"},
        "logs:PutLogEvents": {"Fn::GetAtt": "IndexerLogGroup.Arn"},
    }


def test_only_a_domain_of_amazon_lets_the_functions_in_by_their_roles(resources: dict[str, Any]) -> None:
    for name, role in (("SearchPolicy", "HttpFunctionRole"), ("IndexerSearchPolicy", "IndexerRole")):
        assert resources[name]["Properties"]["Roles"] == [{"Ref": role}]
    # Only the indexer makes indices, and only the sweep deletes them.
    assert paths(resources["SearchPolicy"]) == {
        "/footfall-*": {"es:ESHttpGet", "es:ESHttpPost", "es:ESHttpDelete"},
        "/_index_template/footfall-events": {"es:ESHttpGet"},
    }
    assert paths(resources["IndexerSearchPolicy"]) == {
        "/footfall-*": {"es:ESHttpGet", "es:ESHttpPost", "es:ESHttpPut"},
        "/": {"es:ESHttpGet"},
        "/_bulk": {"es:ESHttpPost"},
        "/_index_template/footfall-events": {"es:ESHttpGet", "es:ESHttpPut"},
    }


def paths(policy: dict[str, Any]) -> dict[str, set[str]]:
    """What may be done where on the domain."""
    return {
        statement["Resource"]["Fn::Sub"].removeprefix("${OpenSearchDomainArn}"): set(
            as_list(statement["Action"])
        )
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    }


def test_the_alarm_tells_of_an_hour_before_a_day_is_over(resources: dict[str, Any]) -> None:
    alarm = resources["IndexerAlarm"]["Properties"]

    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == (
        "AWS/Lambda",
        "IteratorAge",
        "Maximum",
    )
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": {"Ref": "IndexerFunction"}}]
    assert alarm["Threshold"] == 3_600_000
    assert alarm["TreatMissingData"] == "notBreaching"


def test_the_indexer_has_as_much_time_as_the_poller_says(indexer: dict[str, Any]) -> None:
    assert indexer["Timeout"] == stream.HANDLER_SECONDS
    assert indexer["Handler"] == "service.lambda_indexer.handler"
    assert indexer["Runtime"] == read_template()["Resources"]["HttpFunction"]["Properties"]["Runtime"]
    assert indexer["ReservedConcurrentExecutions"]["Fn::If"][0] == "HasIndexerConcurrency"
