"""Packs the stored form and the JSON of every built-in kind, which k8s.io/api (Apache-2.0) carries as test data of its own API
machinery, into tests/golden/kubernetes.jsonl.zst: a line an object. make.sh calls it with the module's folder."""
import base64
import json
import pathlib
import subprocess
import sys

# Answered by the API server, never stored.
NOT_STORED = ("apidiscovery.k8s.io.", "imagepolicy.k8s.io.", "authentication.k8s.io.", "authorization.k8s.io.")
folder = pathlib.Path(sys.argv[1]) / "testdata" / "HEAD"
lines = []
for stored in sorted(folder.glob("*.pb")):
    if "after_roundtrip" in stored.name or stored.name.startswith(NOT_STORED):
        continue
    expected = json.loads(stored.with_suffix(".json").read_text())
    if "metadata" not in expected or "name" not in expected["metadata"]:
        continue  # not what etcd holds: options, reviews
    line = {"name": stored.stem, "stored": base64.b64encode(stored.read_bytes()).decode(), "json": expected}
    lines.append(json.dumps(line, separators=(",", ":"), sort_keys=True))
subprocess.run(["zstd", "-19", "-q", "-f", "-o", sys.argv[2]], input="\n".join(lines).encode(), check=True)
print(len(lines), "objects")
