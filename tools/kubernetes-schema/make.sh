#!/usr/bin/env bash
# Writes src/export/kubernetes.schema and tests/golden/kubernetes.jsonl.zst again; needs go, zstd and the module proxy. To follow a newer Kubernetes, change go.mod first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0
version=$(go list -m -f '{{.Version}}' k8s.io/api)
go run . "$version" > ../../src/export/kubernetes.schema.new
mv ../../src/export/kubernetes.schema.new ../../src/export/kubernetes.schema
python3 golden.py "$(go list -m -f '{{.Dir}}' k8s.io/api)" ../../tests/golden/kubernetes.jsonl.zst
