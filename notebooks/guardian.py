"""What all notebooks share: where the binary and the traces are, and how figures look.

The binary decides, scores and forecasts; the notebooks ask it and draw. Environment:

ETCDGUARDIAN         the binary; else the one on PATH
ETCDGUARDIAN_TRACES  a folder of your own trace files, in place of made-up ones
ETCDGUARDIAN_SHORT   set: two kinds of cluster and eight days in place of five and eight weeks, as the tests run them
PROMETHEUS           the URL to record from, in the notebook about your own cluster
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import traces as made

SHORT = bool(os.environ.get("ETCDGUARDIAN_SHORT"))
SCRATCH = Path(tempfile.mkdtemp(prefix="etcdguardian-notebook."))
INK, QUIET, LINE = "#1a1d24", "#5b6472", "#dfe3e9"
COLOURS = {
    "auto": "#2459d3", "model": "#6d8fe8", "reactive": "#0b8a6f", "fixed": "#9a5b00",
    "threshold": "#8b5cf6", "area": "#c026a3", "oracle": "#1a1d24",
}  # fmt: skip
SOURCES = {"Model": "#2459d3", "Reactive": "#0b8a6f", "Guard": "#c2410c", "Fallback": "#6b7280", "Cron": "#9a5b00"}

plt.rcParams.update(
    {
        "figure.figsize": (9.5, 3.6), "figure.dpi": 80, "figure.constrained_layout.use": True,
        "savefig.facecolor": "white", "figure.facecolor": "white", "axes.facecolor": "white",
        "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": QUIET, "axes.labelcolor": QUIET,
        "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlecolor": INK,
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": LINE, "axes.axisbelow": True,
        "xtick.color": QUIET, "ytick.color": QUIET, "font.size": 9.5, "legend.frameon": False, "lines.linewidth": 1.4,
    }
)  # fmt: skip
pd.set_option("display.float_format", "{:.2f}".format)


def binary():
    path = os.environ.get("ETCDGUARDIAN") or shutil.which("etcdguardian")
    if not path:
        raise FileNotFoundError("no etcdguardian: `make build`, then put it on PATH or name it in ETCDGUARDIAN")
    return path


def run(*words):
    """Runs the binary; its standard output. What it says on standard error is part of a failure's message."""
    done = subprocess.run([binary(), *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"etcdguardian {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def ask(*words):
    """Runs the binary; its answer as JSON."""
    return json.loads(run(*words, "-o", "json"))


def trace_files():
    """The traces that a notebook works on: yours, or made-up ones."""
    own = os.environ.get("ETCDGUARDIAN_TRACES")
    if own:
        files = sorted(Path(own).glob("*.csv"))
        if not files:
            raise FileNotFoundError(f"no *.csv in ETCDGUARDIAN_TRACES={own}")
        return files[:2] if SHORT else files
    names = ("office", "gitops") if SHORT else tuple(made.KINDS)
    return made.write(SCRATCH / "traces", 8 if SHORT else 56, names)


def read(path):
    """A trace file with its times as index."""
    return pd.read_csv(path, parse_dates=["timestamp"], index_col="timestamp")


def without_significance(path):
    """A copy of a trace that only has the raw counter, as a cluster without a better signal would."""
    folder = SCRATCH / "raw"
    folder.mkdir(exist_ok=True)
    read(path).drop(columns="significant_writes_per_s").to_csv(folder / path.name, date_format="%Y-%m-%dT%H:%M:%SZ")
    return folder / path.name


def results(report):
    """A simulation's results as a table."""
    table = pd.DataFrame(report["results"]).drop(columns="steady")
    for column in ("meanExposureRatio", "p99ExposureRatio", "maxExposureRatio", "worstWeekRatio", "modelShare"):
        table[column] *= 100
    return table.rename(
        columns={
            "savedPercent": "saved %", "meanExposureRatio": "mean exposure %", "p99ExposureRatio": "p99 exposure %",
            "maxExposureRatio": "max exposure %", "worstWeekRatio": "worst week %", "modelShare": "by forecast %",
        }
    )  # fmt: skip
