#!/usr/bin/env python3
"""load.py ENDPOINT: writes to an etcd for ever: a burst of twenty seconds, then twenty seconds of little. Loopback, no TLS."""

import base64
import http.client
import itertools
import json
import random
import sys
import time

BURST = 20  # seconds
BUSY, QUIET = 120, 4  # puts a second


def put(connection, key, value):
    body = {"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}
    connection.request("POST", "/v3/kv/put", json.dumps(body))
    connection.getresponse().read()


def main():
    address = sys.argv[1].removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=10)
    generator = random.Random(1)
    begin = time.monotonic()
    for number in itertools.count():
        burst = int((time.monotonic() - begin) / BURST) % 2 == 0
        key = f"/registry/demo/object-{number % 2000:04}".encode()
        put(connection, key, generator.randbytes(600))
        time.sleep(1 / (BUSY if burst else QUIET))


if __name__ == "__main__":
    main()
