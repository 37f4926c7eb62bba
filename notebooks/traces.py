#!/usr/bin/env python3
"""traces.py FOLDER [DAYS]: made-up traces of several kinds of cluster, the same on every machine, as CSV files.

The values are invented: rhythms that clusters have, with bursts, noise, and the churn of leases on top. They are there so that the
notebooks run anywhere; what they say of your cluster is nothing. Record yours with `etcdguardian model export`.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

STEP = 300  # seconds
DAY = 24 * 3600 // STEP  # cells
START = "2026-01-05"  # a Monday


class Clock:
    """The hour of the day and the day of the week of every cell."""

    def __init__(self, days):
        cell = np.arange(days * DAY)
        self.hour = cell % DAY * 24 / DAY
        self.day = cell // DAY
        self.weekday = self.day % 7 < 5
        self.count = len(cell)


def bump(hour, centre, width):
    """A smooth hill around an hour of the day."""
    distance = (hour - centre + 12) % 24 - 12
    return np.exp(-0.5 * (distance / width) ** 2)


def bursts(generator, count, per_day, height, cells):
    """Deployments at random moments, each dying away over some cells."""
    rate = np.zeros(count)
    for start in np.flatnonzero(generator.random(count) < per_day / DAY):
        length = min(cells * 4, count - start)
        rate[start : start + length] += height * generator.lognormal(0, 0.5) * np.exp(-np.arange(length) / cells)
    return rate


def office(clock, generator):
    busy = bump(clock.hour, 10.5, 1.8) + bump(clock.hour, 15.0, 2.0)
    calm = np.where(clock.weekday, 1.0, 0.12)
    return 0.25 + 5.0 * busy * calm + bursts(generator, clock.count, 3, 4, 4)


def gitops(clock, generator):
    return 0.08 + bursts(generator, clock.count, 7, 9, 5) * np.where(clock.weekday, 1.0, 0.25)


def night_jobs(clock, generator):
    return 0.6 + 9.0 * bump(clock.hour, 2.0, 1.1) + 1.5 * bump(clock.hour, 14.0, 2.5) + bursts(generator, clock.count, 2, 3, 3)


def around_the_clock(clock, generator):
    return 3.0 + 1.2 * bump(clock.hour, 9.0, 3.0) + 1.0 * bump(clock.hour, 21.0, 3.0) + bursts(generator, clock.count, 2, 3, 3)


def flat(clock, generator):
    return np.full(clock.count, 1.8)


KINDS = {kind.__name__: kind for kind in (office, gitops, night_jobs, around_the_clock, flat)}


def trace(name, days):
    """A trace of one kind as a data frame with the columns of a trace file."""
    generator = np.random.default_rng(list(KINDS).index(name) + 1)
    clock = Clock(days)
    # Ripples of some minutes and drifts of some hours, as requests have them.
    slow = np.convolve(generator.normal(0, 1, clock.count + 47), np.ones(48) / 48**0.5, "valid")
    smooth = KINDS[name](clock, generator) * np.exp(0.12 * slow + 0.10 * generator.normal(0, 1, clock.count))
    significant = generator.poisson(smooth * STEP) / STEP
    # Nodes renew their leases and events come and go, whatever the hour.
    churn = generator.poisson((5.0 + 0.15 * smooth) * STEP) / STEP
    grown = 60e6 + 4096 * np.cumsum(significant) % 180e6
    busy = 0.1 + 0.9 * (significant + churn) / (significant + churn).max()
    return pd.DataFrame(
        {
            "timestamp": pd.date_range(START, periods=clock.count, freq=f"{STEP}s", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "writes_per_s": (significant + churn).round(3),
            "db_size_bytes": grown.astype(int),
            "load": busy.round(3),
            "significant_writes_per_s": significant.round(3),
        }
    )


def write(folder, days=56, names=tuple(KINDS)):
    """Writes the traces and returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names:
        paths.append(folder / f"{name}.csv")
        trace(name, days).to_csv(paths[-1], index=False)
    return paths


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 56)
