#!/usr/bin/env python3
"""history.py INSTANCE: two weeks of made-up etcd history in OpenMetrics, for the demo's model to learn from.

Quiet nights, busy office hours, a deployment wave at ten past each hour. The values are invented and say nothing of any real cluster.
"""

import math
import sys
import time

DAYS = 14
STEP = 10  # seconds between samples
HOUR = 3600


def writes_per_second(moment):
    hour = moment % (24 * HOUR) / HOUR
    office = max(0.0, math.sin((hour - 6) / 14 * math.pi)) if 6 < hour < 20 else 0.0
    wave = 4.0 if 600 < moment % HOUR < 900 else 0.0
    return 0.3 + 2.0 * office + wave * (0.3 + office)


def main():
    labels = f'{{job="etcd",instance="{sys.argv[1]}"}}'
    end = int(time.time()) // STEP * STEP
    moments = range(end - DAYS * 24 * HOUR, end, STEP)
    write = sys.stdout.write

    write("# TYPE etcd_mvcc_put counter\n")
    puts = 0.0
    for moment in moments:
        puts += writes_per_second(moment) * STEP
        write(f"etcd_mvcc_put_total{labels} {puts:.0f} {moment}\n")
    write("# TYPE etcd_mvcc_delete counter\n")
    for moment in moments:
        write(f"etcd_mvcc_delete_total{labels} 0 {moment}\n")
    write("# TYPE etcd_mvcc_db_total_size_in_bytes gauge\n")
    for moment in moments:
        write(f"etcd_mvcc_db_total_size_in_bytes{labels} {20_000_000 + (moment - moments[0]) * 3} {moment}\n")
    write("# EOF\n")


if __name__ == "__main__":
    main()
