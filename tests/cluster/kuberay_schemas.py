"""KubeRay's own schemas as the API server would apply them with strict fields: what is not in them is refused."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "cluster" / "kuberay"
SHARED = Path(os.environ.get("RESTORE_DIT_SHARED", ROOT.parent / "shared"))
SCHEMAS = SHARED / "schemas" / "kuberay"

needs_schemas = pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"no schemas in {SCHEMAS} (RESTORE_DIT_SHARED)")

# The schemas leave `metadata` of the object itself open; these are the fields that a manifest may set.
METADATA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$", "maxLength": 47},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def strict(schema: Any) -> Any:
    """The same schema, in which an object with named properties has no others and an int-or-string is either."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: strict(part) for name, part in schema.items()}
    # A mapping of names to schemas may have a name "properties" of its own: a schema of an object says so by its type.
    named = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
    if named and not schema.get("x-kubernetes-preserve-unknown-fields"):
        changed.setdefault("additionalProperties", False)
    return changed


@cache
def _definition(kind: str) -> dict[str, Any]:
    path = SCHEMAS / f"ray.io_{kind.lower()}s.yaml"
    versions = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
    [version] = [version for version in versions if version["name"] == "v1"]
    return version["schema"]["openAPIV3Schema"]


@cache
def schema(kind: str) -> dict[str, Any]:
    """The strict schema of a KubeRay object of this kind."""
    whole = strict(_definition(kind))
    whole["properties"]["metadata"] = METADATA
    whole["properties"]["apiVersion"] = {"const": "ray.io/v1"}
    whole["properties"]["kind"] = {"const": kind}
    return {**whole, "required": ["apiVersion", "kind", "metadata", "spec"]}


@cache
def pod_template_schema() -> dict[str, Any]:
    """The strict schema of any pod template: KubeRay embeds Kubernetes' whole."""
    return schema("RayCluster")["properties"]["spec"]["properties"]["headGroupSpec"]["properties"]["template"]


def problems(document: Any, against: dict[str, Any]) -> list[str]:
    """What is wrong with a document, each as path and message."""
    found = jsonschema.Draft202012Validator(against).iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of a manifest."""
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


def pod_templates(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every pod template in an object, by where it is."""
    found: dict[str, dict[str, Any]] = {}

    def search(part: Any, path: str) -> None:
        if isinstance(part, dict):
            spec = part.get("spec")
            if isinstance(spec, dict) and "containers" in spec:
                found[path] = part
            for name, value in part.items():
                search(value, f"{path}.{name}")
        elif isinstance(part, list):
            for index, value in enumerate(part):
                search(value, f"{path}[{index}]")

    search(document, document["kind"])
    return found
