#!/usr/bin/env python3
"""latency.py RETORT [--rounds N] [--requests N]: what accounts, the sketch and a guard that watches add to an answer.

Two servers of one tiny model side by side, one without a store and one with accounts, an event log and `retort guard watch`
behind it; rounds of equal requests to each in turn, over kept connections, so that what else the machine does meets both alike.
P50 and P99 of each, and the paired difference of the rounds' medians with its interval (bootstrap over rounds)."""

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/e2e"))
from harness import make_tiny_model  # noqa: E402


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("retort")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--requests", type=int, default=50)
    options = parser.parse_args()
    retort = str(Path(options.retort).resolve())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_tiny_model(Path("tiny"), context=512)
        run = lambda *arguments: subprocess.run([retort, *arguments], check=True, capture_output=True, text=True).stdout
        Path("plan.json").write_text("{}")
        run("keys", "plan-set", "plan.json", "--name", "basic", "--store", "s.db")
        account = run("keys", "account-create", "Example", "--plan", "basic", "--store", "s.db").strip()
        key = json.loads(run("keys", "create", account, "--name", "k", "--store", "s.db", "--json"))["key"]
        processes = []

        def serve(*arguments):
            process = subprocess.Popen([retort, "serve", "--model", "tiny", "--port", "0", "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            processes.append(process)
            return int(json.loads(process.stdout.readline())["base_url"].split(":")[2].split("/")[0])

        ports = {"no store": serve(), "accounts and guard": serve("--store", "s.db")}
        processes.append(subprocess.Popen([retort, "guard", "watch", "--store", "s.db", "--quiet"]))
        text = " ".join(f"word{i % 97}" for i in range(120))  # 800 bytes
        links = {name: http.client.HTTPConnection("127.0.0.1", port, timeout=60) for name, port in ports.items()}
        taken = {name: [] for name in links}
        medians = []
        try:
            for round_number in range(options.rounds + 1):
                once = {}
                for name, link in links.items():
                    times = []
                    for i in range(options.requests):
                        body = json.dumps({"model": "tiny", "max_tokens": 1, "prompt": f"{round_number} {i} {text}"[:300]})
                        start = time.perf_counter()
                        link.request("POST", "/v1/completions", body, {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
                        response = link.getresponse()
                        response.read()
                        times.append((time.perf_counter() - start) * 1e6)
                        assert response.status == 200, response.status
                    once[name] = quantile(times, 0.5)
                    if round_number > 0:  # the first warms up
                        taken[name] += times
                if round_number > 0:
                    medians.append(once["accounts and guard"] - once["no store"])
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
        for name, times in taken.items():
            print(f"{name}: P50 {quantile(times, 0.5):.0f} us, P99 {quantile(times, 0.99):.0f} us of {len(times)} requests")
        rng = random.Random(1)
        means = sorted(sum(rng.choices(medians, k=len(medians))) / len(medians) for _ in range(2000))
        print(f"added to the median: {sum(medians) / len(medians):.0f} us [{means[50]:.0f}, {means[1949]:.0f}]")


if __name__ == "__main__":
    main()
