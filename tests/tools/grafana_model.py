"""grafana_model.py DASHBOARD.json: reads a dashboard into the types of Grafana 11 (its authors' own library, made from its schema), and
prints each field that the schema does not know, that has a value of another type or none of those that are allowed, or that is written
back as something else; nothing when all of it is understood."""

import enum
import json
import sys
import types
import typing

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard


def differences(given, understood, path=""):
    if isinstance(given, dict) and isinstance(understood, dict):
        for name, value in given.items():
            if name in understood:
                yield from differences(value, understood[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(given, list) and isinstance(understood, list) and len(given) == len(understood):
        for place, (one, other) in enumerate(zip(given, understood)):
            yield from differences(one, other, f"{path}[{place}]")
    elif given != understood:
        yield f"{path} ({given!r}, not {understood!r})"


def read_back(value, wanted):
    return json.loads(JSONEncoder(sort_keys=True).encode(wanted.from_json(value)))


def fits(value, wanted):
    origin, parts = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted in (object, typing.Any):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in parts)
    if origin is typing.Literal:
        return value in parts
    if origin is list:
        return isinstance(value, list) and all(fits(one, parts[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict)
    if issubclass(wanted, enum.Enum):
        return value in list(wanted) or value in [one.value for one in wanted]
    if wanted in (int, float):
        return isinstance(value, (int, wanted)) and not isinstance(value, bool)
    if isinstance(value, dict) and hasattr(wanted, "from_json"):  # what the library leaves as it is
        return read_back(value, wanted) == value
    return isinstance(value, wanted)


def misfits(thing, path=""):
    if isinstance(thing, list):
        for place, one in enumerate(thing):
            yield from misfits(one, f"{path}[{place}]")
    elif type(thing).__module__.startswith("grafana_foundation_sdk.models") and not isinstance(thing, enum.Enum):
        wanted = typing.get_type_hints(type(thing))
        for name, value in vars(thing).items():
            if not fits(value, wanted[name]):
                yield f"{path}.{name}: {value!r} is no {wanted[name]}"
            yield from misfits(value, f"{path}.{name}")


register_default_plugins()
with open(sys.argv[1], encoding="utf-8") as file:
    raw = json.load(file)
for line in [*differences(raw, read_back(raw, Dashboard)), *misfits(Dashboard.from_json(raw))]:
    print(line)
