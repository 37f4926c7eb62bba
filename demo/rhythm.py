"""The demo's rhythm of writes, by the wall clock: forty seconds of many in every two minutes, else few."""

PERIOD = 120  # seconds
BUSY_FOR = 40
BUSY, QUIET = 60, 3  # puts a second


def busy(moment):
    return moment % PERIOD < BUSY_FOR


def rate(moment):
    return BUSY if busy(moment) else QUIET
