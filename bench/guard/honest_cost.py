#!/usr/bin/env python3
"""honest_cost.py RETORT PROMPTS FOLDER [--seed N] [--people N] [--weeks N] [--past N] [--campaign FAMILY:KEYS]...: what a policy would
take from honest users, by a dry run on laboratory traffic.

Makes the traffic (honest and attackers together), replays it through the shipped detectors, and counts, from week PAST on,
honest requests that come after a verdict on their account: by level and kind. Then, for all honest requests, what each
countermeasure of docs/guard.md would touch if their account were marked."""

import argparse
import collections
import json
import math
import pathlib
import subprocess

PER_MINUTE, PER_DAY = 6, 20_000  # of the policy in docs/guard.md
LEVELS = ("review", "throttle", "suspend")
DAY_MS = 86_400_000


def upper(k, n, confidence=0.975):
    """Clopper and Pearson's upper bound, by bisection on the binomial's tail."""
    if n == 0 or k >= n:
        return 1.0
    low, high = k / n, 1.0
    for _ in range(60):
        p = (low + high) / 2
        tail = sum(math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p))
                   for i in range(k + 1)) if p < 1 else 0
        low, high = (p, high) if tail > 1 - confidence else (low, p)
    return high


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("retort")
    parser.add_argument("prompts")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=301)
    parser.add_argument("--people", type=int, default=10500)
    parser.add_argument("--weeks", type=int, default=11)
    parser.add_argument("--past", type=int, default=8)
    parser.add_argument("--campaign", action="append", default=[])
    options = parser.parse_args()
    folder = options.folder
    if not (folder / "manifest.json").exists():
        attackers = [part for one in options.campaign for part in ("--campaign", one)]
        subprocess.run([options.retort, "guard", "lab", "--prompts", options.prompts, "--out", folder, "--seed", str(options.seed), "--people",
                        str(options.people), "--weeks", str(options.weeks), "--attack-day", str(options.past * 7 + 1), "-q", *attackers], check=True)
    labels = {one["account"]: one for one in map(json.loads, (folder / "labels.jsonl").open())}
    verdicts = subprocess.run([options.retort, "guard", "replay", folder / "events", "--json", "-q"], check=True, capture_output=True, text=True).stdout
    since = [{}, {}, {}]  # by level: when an account was first raised to it, or above it
    raised = collections.Counter()
    for verdict in map(json.loads, verdicts.splitlines()):
        raised[verdict["detector"], verdict["level"]] += 1
        for account in verdict["accounts"]:
            for level in range(LEVELS.index(verdict["level"]) + 1):
                since[level].setdefault(account, verdict["time_ms"])
    since_ms = (2900 + options.past) * 7 * DAY_MS  # of the laboratory's traffic, which begins in week 2900
    events = subprocess.Popen([options.retort, "keys", "events", folder / "events", "--since", str(since_ms // 1000)], stdout=subprocess.PIPE, text=True)
    count = collections.Counter()
    minute, day = collections.Counter(), collections.Counter()
    for event in map(json.loads, events.stdout):
        account, time = event["account"], event["time_ms"]
        who = labels[account]
        kind = "attackers" if who["attacker"] else who["kind"]
        seen = [kind] if who["attacker"] else [kind, "all honest"]
        tokens = event["prompt_tokens"] + event["completion_tokens"]
        minute[account, time // 60_000] += 1
        beyond = day[account, time // DAY_MS] + tokens > PER_DAY  # what is refused uses nothing
        if not beyond:
            day[account, time // DAY_MS] += tokens
        touched = {"requests": True, "rate": minute[account, time // 60_000] > PER_MINUTE, "tokens": beyond,
                   "logprobs": event["logprobs"], "bias": event["logit_bias"]}
        touched |= {level: time >= since[i].get(account, math.inf) for i, level in enumerate(LEVELS)}
        touched["refused while throttled"] = touched["throttle"] and (touched["rate"] or beyond)
        for name, yes in touched.items():
            for group in seen if yes else []:
                count[group, name] += 1
    accounts = collections.Counter("attackers" if one["attacker"] else one["kind"] for one in labels.values())
    marked = [collections.Counter("attackers" if labels[a]["attacker"] else labels[a]["kind"] for a in one) for one in since]
    for one in (accounts, *marked):
        one["all honest"] = sum(n for kind, n in one.items() if kind != "attackers")
    kinds = ["all honest", *sorted(kind for kind in accounts if kind not in ("all honest", "attackers")), "attackers"]
    share = lambda kind, name: f"{100 * count[kind, name] / max(1, count[kind, 'requests']):.3f} %"
    print("Verdicts by detector and level: " + ", ".join(f"{d} {level} {n}" for (d, level), n in sorted(raised.items())) + "\n")
    print(f"Requests from week {options.past} on that come after a verdict on their account; accounts raised at any time\n")
    print("| kind | accounts | requests | review or above | throttle or above | suspend | refused by the throttled quotas | accounts at review, throttle, suspend |\n"
          "|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        print(f"| {kind} | {accounts[kind]} | {count[kind, 'requests']} | " + " | ".join(share(kind, level) for level in LEVELS) +
              f" | {share(kind, 'refused while throttled')} | {', '.join(str(one[kind]) for one in marked)} |")
    n = accounts["all honest"]
    print("\nAt most so many honest accounts (95 %): " + ", ".join(f"{level} {upper(marked[i]['all honest'], n):.2e}" for i, level in enumerate(LEVELS)) + "\n")
    print("What would be touched if every account of the kind were marked `throttle`\n")
    print(f"| kind | beyond {PER_MINUTE} a minute | beyond {PER_DAY} tokens a day | logprobs refused | with a bias |\n|---|---|---|---|---|")
    for kind in kinds:
        print(f"| {kind} | " + " | ".join(share(kind, name) for name in ("rate", "tokens", "logprobs", "bias")) + " |")


if __name__ == "__main__":
    main()
