"""grafana_model.py DASHBOARD.json: reads a dashboard into the types of Grafana 11 (its authors' own library), writes it back, and prints
each field that Grafana's model does not know, or takes for another value; nothing when all of it is understood."""

import json
import sys

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


register_default_plugins()
with open(sys.argv[1], encoding="utf-8") as file:
    raw = json.load(file)
model = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(raw)))
for line in differences(raw, model):
    print(line)
