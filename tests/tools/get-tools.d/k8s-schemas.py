#!/usr/bin/env python3
"""k8s-schemas.py SWAGGER.json FOLDER: strict JSON schemas for kubeconform from Kubernetes' own swagger.json.

Writes <kind>-<group's first word>-<version>.json, or <kind>-<version>.json for the core group. Strict: an unknown field is an error.
"""

import json
import sys
from pathlib import Path


def resolved(node, definitions, seen):
    """The node with every $ref replaced by what it names; a definition inside itself becomes 'anything'."""
    if isinstance(node, list):
        return [resolved(item, definitions, seen) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        if name in seen or name.endswith("JSONSchemaProps"):
            return {}
        return resolved(definitions[name], definitions, seen | {name})
    return {key: resolved(value, definitions, seen) for key, value in node.items()}


def make_strict(node):
    if isinstance(node, list):
        for item in node:
            make_strict(item)
    elif isinstance(node, dict):
        if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
            node["additionalProperties"] = False
        if node.get("format") == "int-or-string":
            node.pop("type", None)
            node.pop("format")
            node["oneOf"] = [{"type": "string"}, {"type": "integer"}]
        for value in node.values():
            make_strict(value)


def main():
    definitions = json.loads(Path(sys.argv[1]).read_text())["definitions"]
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True)
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", [])[:1]:
            schema = resolved(definition, definitions, {name})
            make_strict(schema)
            group = kind["group"].split(".")[0]
            words = [kind["kind"], group, kind["version"]] if group else [kind["kind"], kind["version"]]
            (folder / ("-".join(words).lower() + ".json")).write_text(json.dumps(schema))


if __name__ == "__main__":
    main()
