#!/usr/bin/env python3
"""What run.sh says of the half load: each target's quantiles over its turns, and how much more than nginx's the P99 of the same
turn is, with an interval by resampling turns."""

import random
import re
import statistics
import sys

turns = {}
for line in open(sys.argv[1]):
    found = re.match(r"half load, turn (\d+), ([^:]+): .*P50 ([\d.]+) P90 ([\d.]+) P99 ([\d.]+)", line)
    turns.setdefault(found[2], []).append([float(x) for x in found.groups()[2:]])
print("| half load, ms: median of the turns (least to most) | P50 | P90 | P99 |\n|---|---|---|---|")
for name, values in turns.items():
    cells = [f"{statistics.median(v):.3f} ({min(v):.2f} to {max(v):.2f})" for v in zip(*values)]
    print(f"| {name}, {len(values)} turns | {' | '.join(cells)} |")
nginx, retort = (next(v for k, v in turns.items() if k.startswith(n)) for n in ("nginx", "retort"))
more = [b[2] - a[2] for a, b in zip(nginx, retort)]
rng = random.Random(1)
means = sorted(statistics.mean(rng.choices(more, k=len(more))) for _ in range(10000))
print(f"P99 of retort less that of nginx in the same turn: mean {statistics.mean(more):+.2f} ms [{means[250]:+.2f}, {means[9750]:+.2f}], "
      f"median {statistics.median(more):+.2f}; at most 1 ms in {sum(m <= 1 for m in more)} of {len(more)} turns")
