"""What Footfall is measured against: the least a Lambda function with boto3 can do, without any of its promises.

One write, or one query, with the client and the settings that a first page of any tutorial has.
"""

import json
import os
from typing import Any

import boto3

_TABLE = os.environ["FOOTFALL_TABLE"]
_dynamodb = boto3.client("dynamodb")


def update(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - a handler's signature
    """Count one event: no key check, no retry safety, one metric."""
    tracked = json.loads(event["body"])
    _dynamodb.update_item(
        TableName=_TABLE,
        Key={"PK": {"S": "BARE#" + tracked["userId"]}, "SK": {"S": "DAY#" + tracked["timestamp"][:10]}},
        UpdateExpression="ADD events :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    return _reply({"success": True})


def query(event: dict[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - a handler's signature
    """Read a user's days and answer how many events they hold."""
    parameters = event["queryStringParameters"]
    reply = _dynamodb.query(
        TableName=_TABLE,
        KeyConditionExpression="PK = :user AND SK BETWEEN :first AND :last",
        ExpressionAttributeValues={
            ":user": {"S": "USER#" + event["pathParameters"]["userId"]},
            ":first": {"S": "DAY#" + parameters["from"]},
            ":last": {"S": "DAY#" + parameters["to"]},
        },
    )
    events = sum(int(item["events"]["N"]) for item in reply["Items"])
    return _reply({"activeDays": len(reply["Items"]), "events": events})


def _reply(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(body),
    }
