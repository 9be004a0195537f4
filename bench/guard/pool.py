#!/usr/bin/env python3
"""pool.py FILE...: the tables of several `retort guard evaluate --json` runs of different seeds, together.

Each FILE's last line is a run's JSON. Detection by family and keys at each operating point, requests seen before, ROC at 1 % of
the plan (each run by its own thresholds), baselines; false alarms by kind, as accounts and as verdicts (the accounts of one verdict
are one event), and of honest accounts beside campaigns; uniformity of p-values. Intervals are Clopper and Pearson's, 95 %."""

import collections
import json
import math
import pathlib
import statistics
import sys

LEVELS = ("review", "throttle", "suspend")
BASELINES = ("rate limit", "PRADA", "MMD", "near duplicates")


def tail(k, n, p):
    """P(at most k of n)."""
    if p <= 0 or p >= 1:
        return 1.0 if p <= 0 or k >= n else 0.0
    return sum(math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p))
               for i in range(k + 1))


def clopper_pearson(k, n):
    def solve(holds):
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return low
    low = 0.0 if k == 0 else solve(lambda p: 1 - tail(k - 1, n, p) < 0.025)
    return low, 1.0 if k >= n else solve(lambda p: tail(k, n, p) > 0.025)


def share(k, n):
    low, high = clopper_pearson(k, n)
    return f"{k}/{n} [{low:.3f}, {high:.3f}]"


def rate(k, months):
    low, high = clopper_pearson(min(k, int(months)), int(months))
    return f"{k} ({k / months:.1e} [{low:.1e}, {high:.1e}])" if months >= 1 else str(k)


def detection(runs):
    cells = collections.defaultdict(list)
    for run in runs:
        for one in run["campaigns"]:
            cells[one["family"], one["keys"]].append(one)
    within = lambda one, what, limit: 0 <= one[what]["share"] <= limit
    print("| family | K | review, 1 % | throttle, 1 % | suspend, 1 % | review, 5 % | throttle, 5 % | suspend, 5 % |\n|---|---|---|---|---|---|---|---|")
    for (family, keys), all_ in cells.items():
        print(f"| {family} | {keys} | " + " | ".join(share(sum(within(one, level, limit) for one in all_), len(all_))
                                                       for limit in (0.01, 1) for level in LEVELS) + " |")
    print("\n| family | K | median share of the plan at review, throttle, suspend | requests before throttle: median [least, most] | first key | by | "
          + " | ".join(BASELINES) + " |\n|---|---|---|---|---|---|---|---|---|---|")
    for (family, keys), all_ in cells.items():
        medians = []
        for level in LEVELS:
            middle = statistics.median_high([one[level]["share"] if one[level]["share"] >= 0 else 9 for one in all_])
            medians.append("-" if middle > 1 else f"{100 * middle:.2f} %")
        asked = [one["throttle"]["requests"] for one in all_ if one["throttle"]["share"] >= 0]
        first = [one["throttle"]["first_share"] for one in all_ if one["throttle"]["first_share"] >= 0]
        print(f"| {family} | {keys} | {', '.join(medians)} | " +
              (f"{statistics.median(asked):.0f} [{min(asked):.0f}, {max(asked):.0f}] of {len(asked)}" if asked else "-") +
              f" | {f'{100 * statistics.median(first):.2f} %' if first else '-'} | {', '.join(sorted({one['detector'] for one in all_} - {''}))} | " +
              " | ".join(f"{sum(within(one, b, 0.01) for one in all_)}/{len(all_)}" for b in BASELINES) + " |")
    print("\nROC: campaigns whose median key at 1 % of the plan stands beyond the threshold\n")
    print("| false positives an account-week | " + " | ".join(f"{f} {k}" for f, k in cells) + " |\n|---|" + "---|" * len(cells))
    thresholds = [[line.split("|") for line in run["report"].split("ROC at")[1].splitlines()[3:]] for run in runs]
    for i in range(min(map(len, thresholds))):
        found = collections.Counter()
        for run, rows in zip(runs, thresholds):
            for one in run["campaigns"]:
                found[one["family"], one["keys"]] += one["p_at_one_percent"] < float(rows[i][2])
        print(f"|{thresholds[0][i][1].split('(')[0]}| " + " | ".join(f"{found[c] / len(cells[c]):.2f}" for c in cells) + " |")


def false_alarms(runs):
    kinds = sorted({kind for run in runs for kind in run["by_kind"]} - {"all"})
    total = lambda kind, what: sum(run["by_kind"].get(kind, {}).get(what, 0) for run in runs)
    def verdicts(kind, level):
        return len({(i, alarm["verdict"]) for i, run in enumerate(runs) for alarm in run["false_alarms"]
                    if kind in ("all", alarm["kind"]) and LEVELS.index(alarm["level"]) >= LEVELS.index(level)})
    print("| kind | accounts | account-months | " + " | ".join(f"{level}: accounts (an account-month) | verdicts" for level in LEVELS) +
          " |\n|---|---|---|---|---|---|---|---|---|")
    for kind in ["all", *kinds]:
        months = total(kind, "months")
        print(f"| {kind} | {total(kind, 'accounts')} | {months:.0f} | " +
              " | ".join(f"{rate(total(kind, level), months)} | {verdicts(kind, level)}" for level in LEVELS) + " |")
    for b in BASELINES:
        months = sum(run["baselines"][b]["months"] for run in runs)
        print(f"| baseline {b} | | {months:.0f} | " + " | ".join(f"{rate(sum(run['baselines'][b][level] for run in runs), months)} | " for level in LEVELS) + " |")
    by = collections.Counter((a["detector"], a["level"], a["kind"]) for run in runs for a in run["false_alarms"])
    print("\nBy detector: " + ("; ".join(f"{d}, {level}, {kind}: {n}" for (d, level, kind), n in sorted(by.items())) or "none"))


def main():
    runs = [json.loads(pathlib.Path(path).read_text().splitlines()[-1]) for path in sys.argv[1:]]
    for path, run in zip(sys.argv[1:], runs):
        print(f"{pathlib.Path(path).stem}: {run['honest_accounts']} honest accounts, {run['honest_events']} events; uniformity over "
              f"{run['uniformity']['accounts']} accounts: " +
              ", ".join(f"{d} D {one['distance']:.4f} p {one['p']:.2g}" for d, one in run["uniformity"].items() if d != "accounts"))
    print()
    false_alarms(runs)
    if any(run["campaigns"] for run in runs):
        beside = [run["beside_campaigns"] for run in runs]
        months = sum(one["months"] for one in beside)
        print(f"\nBeside campaigns, {sum(one['overlays'] for one in beside)} sets of them, {months:.0f} account-months: " +
              ", ".join(f"{level} {rate(sum(one[level] for one in beside), months)}" for level in LEVELS))
        print()
        detection([run for run in runs if run["campaigns"]])


if __name__ == "__main__":
    main()
