"""A message's fields as a plain dict, by the same schema as its contract and without an instance of it.

Making an instance is a good part of what validation costs, and a row needs only the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from ingest.topics.contract import Contract

FieldsOf: TypeAlias = Callable[[bytes], dict[str, Any]]
"""JSON → field → value, then the fields that the contract doesn't know, as they came. Raises ValidationError where the
contract does, but only the contract itself says rightly why."""


def fields_validator(contract: type[Contract]) -> FieldsOf | None:
    """What a contract makes of a message, as a dict: equal to an instance's ``__dict__`` and its extra fields.

    None for a contract that is more than its fields (a model's own validator, constructor or extra fields of a type;
    an alias under which a field's own name may come as an unknown one): only an instance does it justice.
    """
    if contract.model_validate_json.__func__ is not BaseModel.model_validate_json.__func__:  # type: ignore[attr-defined]
        return None
    found: Any = contract.__pydantic_core_schema__
    definitions: list[CoreSchema] = []
    if isinstance(found, dict) and found["type"] == "definitions":
        found, definitions = found["schema"], found["definitions"]
    if not isinstance(found, dict) or found["type"] != "model" or found["schema"]["type"] != "model-fields":
        return None
    if found.get("custom_init") or found.get("post_init") or found.get("root_model"):
        return None
    inner = found["schema"]
    fields: dict[str, Any] = inner["fields"]
    if inner.get("extras_schema") or inner.get("extras_keys_schema"):
        return None
    if not all(_comes_by_its_name(name, field) for name, field in fields.items()):
        return None
    schema: CoreSchema = core_schema.typed_dict_schema(
        {
            name: core_schema.typed_dict_field(
                field["schema"],
                required=field["schema"]["type"] != "default",
                validation_alias=field.get("validation_alias"),
            )
            for name, field in fields.items()
        },
        config=found.get("config"),
    )
    if definitions:
        schema = core_schema.definitions_schema(schema, definitions)
    validate: FieldsOf = SchemaValidator(schema).validate_json
    return validate


def _comes_by_its_name(name: str, field: dict[str, Any]) -> bool:
    """Whether a message's member of that name is always taken for the field. It would stand in its place otherwise."""
    alias = field.get("validation_alias")  # a name, a path, or a list of paths of which the first that is there counts
    return alias is None or alias in (name, [name]) or alias[0] == [name]
