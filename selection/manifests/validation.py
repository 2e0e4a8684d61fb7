"""Checks a YAML document against a pydantic model, with errors of the form `file:line: key: sentence`."""

from inspect import isclass
from typing import Any, NoReturn, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from selection.manifests.located_yaml import Document, Location

_SENTENCES = {
    "string_type": "must be a text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
}
_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], document: Document, at: Location = ()) -> _Model:
    """The value at `at`, as the model. Raises ManifestError for the first key that is wrong."""
    data: Any = document.data
    for part in at:
        if not isinstance(data, dict):
            document.fail((), _SENTENCES["dict_type"])
        if data.get(part) is None:
            document.fail((), f"the key {part} is missing")
        data = data[part]
    try:
        return model.model_validate(data)
    except ValidationError as error:
        _fail(document, model, at, error.errors(include_url=False))


def _fail(document: Document, model: type[BaseModel], at: Location, errors: list[ErrorDetails]) -> NoReturn:
    """Raise ManifestError for the first; a misspelt key comes before the one that is then missing."""
    first = min(
        errors, key=lambda each: (each["type"] != "extra_forbidden", document.line((*at, *each["loc"])))
    )
    location, what = (*at, *first["loc"]), first["type"]
    if what == "missing":
        document.fail(location[:-1], f"the key {location[-1]} is missing")
    if what == "extra_forbidden":
        known = ", ".join(_known_keys(model, first["loc"][:-1]))
        document.fail(location, f"is not a key here; known are {known}", at_key=True)
    if what == "literal_error":
        sentence = f"must be one of {first['ctx']['expected'].replace(chr(39), '')}"
    elif what in _SENTENCES:
        sentence = _SENTENCES[what]
    else:
        document.fail(location, first["msg"])
    document.fail(location, f"{sentence}, not {first['input']!r:.60}")


def _known_keys(model: type[BaseModel], section: Location) -> list[str]:
    for part in section:
        if isinstance(part, str):
            field = next(each for name, each in model.model_fields.items() if (each.alias or name) == part)
            kinds = (field.annotation, *get_args(field.annotation))
            model = next(each for each in kinds if isclass(each) and issubclass(each, BaseModel))
    return [field.alias or name for name, field in model.model_fields.items()]
