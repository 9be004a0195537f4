#!/usr/bin/env python3
"""The page of a factory's results.jsonl: tables with binomial intervals and p-value plots (SVG). Standard library only.

    python3 bench/audit/report.py FOLDER/results.jsonl... bench/transcripts/audit-factory"""

import json
import math
import pathlib
import sys


def tail(k, n, p):
    return sum(math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) +
                        (n - i) * math.log1p(-p)) for i in range(k, n + 1)) if k > 0 else 1.0


def interval(n, p):
    """The counts that a Binomial(n, p) stays within, 2.5 % outside on either side at most."""
    low = max(k for k in range(n + 1) if 1 - tail(k, n, p) <= 0.025) if n else 0
    high = min(k for k in range(n + 1) if tail(k + 1, n, p) <= 0.025) if n else 0
    return low, high


def ks_distance(values):
    p = sorted(math.exp(v) for v in values)
    return max(max((i + 1) / len(p) - x, x - i / len(p)) for i, x in enumerate(p))


def number(log_p):
    if log_p is None or log_p < -1e300:
        return "0"
    if log_p > math.log(1e-3):
        return f"{math.exp(log_p):.3f}"
    tens = log_p / math.log(10)
    return f"{10 ** (tens - math.floor(tens)):.1f}e{math.floor(tens)}"


def plot(by_test, path):
    """Sorted p-values of the controls against those expected, both as −log10."""
    colours = ["#1f5fae", "#a8321f", "#2f7d3a", "#7a3fa0"]
    size, left, top = 340, 46, 12
    n = max(len(v) for v in by_test.values())
    most = math.log10(n) + 0.8
    at = lambda v: size * min(v, most) / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size + left + 190} {size + 60}" font-family="sans-serif" '
           f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>',
           f'<rect x="{left}" y="{top}" width="{size}" height="{size}" fill="none" stroke="#bbb"/>',
           f'<line x1="{left}" y1="{top + size}" x2="{left + size}" y2="{top}" stroke="#888" stroke-dasharray="4 3"/>']
    for k in range(int(most) + 1):
        out.append(f'<text x="{left + at(k)}" y="{top + size + 16}" text-anchor="middle">{k}</text>'
                   f'<text x="{left - 6}" y="{top + size - at(k) + 4}" text-anchor="end">{k}</text>')
    out.append(f'<text x="{left + size / 2}" y="{top + size + 36}" text-anchor="middle">−log10 of the p-value expected of '
               f'uniform ones</text><text x="{left}" y="{top - 2}">−log10 p of the controls</text>')
    for c, (test, values) in enumerate(sorted(by_test.items())):
        for i, log_p in enumerate(sorted(values)):
            x, y = -math.log10((i + 0.5) / len(values)), -log_p / math.log(10)
            out.append(f'<circle cx="{left + at(x):.1f}" cy="{top + size - at(y):.1f}" r="2.5" fill="{colours[c % 4]}"/>')
        out.append(f'<circle cx="{left + size + 14}" cy="{top + 14 + 18 * c}" r="4" fill="{colours[c % 4]}"/>'
                   f'<text x="{left + size + 24}" y="{top + 18 + 18 * c}">{test}</text>')
    path.write_text("".join(out) + "</svg>\n")


def main():
    *files, base = map(pathlib.Path, sys.argv[1:])
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    tests = ["twin-likelihood", "twin-continuation", "radioactivity-open", "radioactivity-closed", "green-mass"]
    tests = [t for t in tests if any(t in row["tests"] for row in rows)]
    out = ["| suspect | marked | " + " | ".join(tests) + " |", "|---|---" + "|---" * len(tests) + "|"]
    for row in rows:
        if row["kind"] not in ("positive", "remains"):
            continue
        cells = " | ".join(number(row["tests"][t]["log_p"]) if t in row["tests"] else "–" for t in tests)
        out.append(f"| {row['name']} | {row.get('marked', '')} of {row.get('examples', '')} | {cells} |")
    controls = [row for row in rows if row["kind"] not in ("positive", "remains")]
    by_test = {t: [row["tests"][t]["log_p"] for row in controls if t in row["tests"]] for t in tests}
    by_test = {t: v for t, v in by_test.items() if v}
    out += ["", f"{len(controls)} controls: " + ", ".join(
        f"{sum(r['kind'] == k for r in controls)} {k}" for k in sorted({r['kind'] for r in controls})) + ".", "",
        "| test | n | p ≤ .01: seen, within | p ≤ .001: seen, within | least p | KS distance (5 % point) |", "|---|---|---|---|---|---|"]
    pooled = [v for values in by_test.values() for v in values]
    for name, values in [*by_test.items(), ("pooled", pooled)]:
        cells = []
        for level in (0.01, 0.001):
            low, high = interval(len(values), level)
            seen = sum(v <= math.log(level) for v in values)
            cells.append(f"{seen}, {low}–{high}: {'yes' if low <= seen <= high else 'NO'}")
        # Of a pool the tests on one suspect are not independent: no KS point.
        ks = "" if name == "pooled" else f"{ks_distance(values):.3f} ({1.358 / math.sqrt(len(values)):.3f})"
        out.append(f"| {name} | {len(values)} | {cells[0]} | {cells[1]} | {number(min(values))} | {ks} |")
    if by_test:
        plot(by_test, base.with_suffix(".svg"))
    print("\n".join(out))


if __name__ == "__main__":
    main()
