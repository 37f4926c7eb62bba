"""The demo's rhythm of writes, by the wall clock: seventy seconds of many in every four minutes, else few."""

PERIOD = 240  # seconds
BUSY_FOR = 70
BUSY, QUIET = 90, 3  # puts a second


def busy(moment):
    return moment % PERIOD < BUSY_FOR


def rate(moment):
    return BUSY if busy(moment) else QUIET
