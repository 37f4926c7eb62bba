#!/usr/bin/env python3
"""history.py INSTANCE: made-up etcd history in OpenMetrics, for the demo's model to learn from.

The demo's clock is compressed: its cron fires each minute, so fourteen of its days are a day of ours. The values are invented and say
nothing of any real cluster. load.py goes on with the same rhythm, read from the same wall clock.
"""

import random
import sys
import time

from rhythm import rate

SPAN = 23 * 3600  # seconds of history
STEP = 2  # seconds between samples


def main():
    labels = f'{{job="etcd",instance="{sys.argv[1]}"}}'
    end = int(time.time()) // STEP * STEP
    moments = range(end - SPAN, end, STEP)
    generator = random.Random(1)
    write = sys.stdout.write

    write("# TYPE etcd_mvcc_put counter\n")
    puts = 0.0
    for moment in moments:
        puts += rate(moment) * STEP * generator.uniform(0.8, 1.2)
        write(f"etcd_mvcc_put_total{labels} {puts:.0f} {moment}\n")
    write("# TYPE etcd_mvcc_delete counter\n")
    for moment in moments:
        write(f"etcd_mvcc_delete_total{labels} 0 {moment}\n")
    write("# TYPE etcd_mvcc_db_total_size_in_bytes gauge\n")
    for moment in moments:
        write(f"etcd_mvcc_db_total_size_in_bytes{labels} 8200000 {moment}\n")
    write("# EOF\n")


if __name__ == "__main__":
    main()
