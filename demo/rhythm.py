"""The demo's rhythm of writes, by the wall clock: a minute of many, two of few, over and over."""

PERIOD = 180  # seconds
BUSY_FOR = 60
BUSY, QUIET = 80, 2  # puts a second


def busy(moment):
    return moment % PERIOD < BUSY_FOR


def rate(moment):
    return BUSY if busy(moment) else QUIET
