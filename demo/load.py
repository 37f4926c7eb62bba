#!/usr/bin/env python3
"""load.py ENDPOINT: writes to an etcd for ever, in the rhythm of rhythm.py. Loopback, no TLS."""

import base64
import http.client
import itertools
import json
import random
import sys
import time

from rhythm import rate


# What a cluster writes most, roughly; the values are random bytes.
SMALL = ["leases/kube-node-lease/node", "leases/kube-node-lease/node", "events/shop/event", "pods/shop/web", "endpointslices/shop/web"]
LARGE = ["configmaps/shop/catalogue", "configmaps/shop/prices", "secrets/shop/release", "apiextensions.k8s.io/customresourcedefinitions/shops"]


def put(connection, key, value):
    body = {"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}
    connection.request("POST", "/v3/kv/put", json.dumps(body))
    connection.getresponse().read()


def main():
    address = sys.argv[1].removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=10)
    generator = random.Random(1)
    # A database of the size that the history tells of, so that a backup's size is no surprise.
    for number in range(16):
        put(connection, f"/registry/{LARGE[number % len(LARGE)]}-{number:02}".encode(), generator.randbytes(500_000))
    due = time.monotonic()
    for number in itertools.count():
        key = f"/registry/{SMALL[number % len(SMALL)]}-{number % 2000:04}".encode()
        put(connection, key, generator.randbytes(100))
        # By the plan, not from the answer: a slow etcd does not change the rhythm.
        due = max(due + 1 / rate(time.time()), time.monotonic() - 1)
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
