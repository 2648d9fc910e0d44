"""The schema that ships with the package, for reports that tests make."""

import importlib.resources
import json

import jsonschema

SCHEMA = json.loads(importlib.resources.files("onnx_merge.report").joinpath("report.schema.json").read_text("utf-8"))
_validators = {
    kind: jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})
    for kind in ("run", "inspection", "sweep", "verify")
}


def validate(report, kind):
    """Raise unless a report, as text or as what it says, is one of ``kind``: run, inspection, sweep or verify."""
    _validators[kind].validate(json.loads(report) if isinstance(report, str) else report)


def checked(method, kind):
    """A ``to_json`` that validates what it returns."""

    def to_json(self):
        text = method(self)
        validate(text, kind)
        return text

    return to_json
