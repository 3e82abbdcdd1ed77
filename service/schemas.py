"""The models of requests and replies as JSON Schema, for the description of the API."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from .reply_models import REPLIES
from .request_models import REQUESTS
from .search_requests import REQUESTS as SEARCHES


class _Generator(GenerateJsonSchema):
    """Without the titles of fields, which repeat their names; and without null as a default, which makes generators
    of clients take a field for one that is always there.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if "default" in found and found["default"] is None:
            del found["default"]
        return found


def schemas(ref_template: str) -> dict[str, Any]:
    """Every model by its name."""
    found: dict[str, Any] = {}
    for models in (REQUESTS, SEARCHES, REPLIES):
        found |= models_json_schema(
            [(model, "validation") for model in models],
            ref_template=ref_template,
            schema_generator=_Generator,
        )[1]["$defs"]
    return found
