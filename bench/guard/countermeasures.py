#!/usr/bin/env python3
"""countermeasures.py RETORT [--rounds N] [--requests N]: what each countermeasure adds to an answer.

Servers of the small reasoning teacher (recipes/reasoning), with accounts: nothing taken, reasoning summarised or withheld, limits
reserved and settled, a watermark, a twin for every request. Rounds of the same requests, over kept connections, to all cases in an
order drawn anew. For each the server's CPU time a request (of all its threads, by the scheduler's clock, which other work on the
machine changes little) and the wait for the whole answer and for a stream's first text, each as the paired difference to `nothing
taken` with its interval (bootstrap over rounds)."""

import argparse
import http.client
import json
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FULL = {"reasoning": "full", "logprobs": True}
# Plan, and what the server plants.
CASES = {"nothing taken": (FULL, None), "the same again": (FULL, None), "reasoning summarised": ({**FULL, "reasoning": "summarised"}, None),
         "reasoning withheld": ({**FULL, "reasoning": "withheld"}, None), "logprobs withdrawn": ({**FULL, "logprobs": False}, None),
         "requests a minute and tokens a day": ({**FULL, "limits": {"requests_per_minute": 10**6, "tokens_per_day": 10**12}}, None),
         "watermark": (FULL, ["--twins", "0"]), "a twin for every request": (FULL, ["--watermark", "none", "--twins", "1"])}


def ask(link, key, prompt, stream):
    body = {"model": "teacher", "messages": [{"role": "user", "content": prompt}], "max_tokens": 100, "temperature": 0.8, "seed": 1,
            "stream": stream}
    start = time.perf_counter()
    link.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    response = link.getresponse()
    first = None
    if stream:
        for line in response:
            if first is None and b'content":"' in line and b'content":""' not in line:
                first = time.perf_counter() - start
    else:
        response.read()
    assert response.status == 200, response.status
    return (first if stream else time.perf_counter() - start) * 1e6


def cpu_us(process):
    return sum(int(path.read_text().split()[0]) for path in pathlib.Path(f"/proc/{process.pid}/task").glob("*/schedstat")) / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("retort")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--requests", type=int, default=20)
    options = parser.parse_args()
    retort = str(pathlib.Path(options.retort).resolve())
    with tempfile.TemporaryDirectory() as folder:
        run = lambda *arguments: subprocess.run([retort, *map(str, arguments)], check=True, capture_output=True, text=True, cwd=folder).stdout
        problems = pathlib.Path(folder) / "problems.jsonl"
        run("problems", "--count", options.rounds * options.requests, "--kinds", "digits", "--output", problems)
        prompts = [json.loads(line)["prompt"] for line in problems.read_text().splitlines()]
        processes, links, keys, servers, of_case = [], {}, {}, {}, {}
        try:
            for i, (name, (plan, planted)) in enumerate(CASES.items()):
                # Cases that plant nothing share a server and a store: only their plans differ.
                where = "plain" if planted is None else f"planted{i}"
                (pathlib.Path(folder) / "plan.json").write_text(json.dumps(plan))
                run("keys", "plan-set", "plan.json", "--name", f"p{i}", "--store", f"{where}.db")
                account = run("keys", "account-create", f"a{i}", "--plan", f"p{i}", "--store", f"{where}.db").strip()
                keys[name] = json.loads(run("keys", "create", account, "--name", "k", "--store", f"{where}.db", "--json"))["key"]
                if where not in servers:
                    more = []
                    if planted is not None:
                        run("audit", "plant", where, "--secret", f"{where}.key", *planted)
                        more = ["--plant", where]
                    server = subprocess.Popen([retort, "serve", "--model", ROOT / "recipes/reasoning/teacher.gguf", "--name", "teacher", "--port", "0",
                                               "--json", "--threads", "1", "--store", f"{where}.db", *more], cwd=folder, stdout=subprocess.PIPE,
                                              stderr=subprocess.DEVNULL, text=True)
                    processes.append(server)
                    servers[where] = server, int(json.loads(server.stdout.readline())["base_url"].split(":")[2].split("/")[0])
                links[name] = http.client.HTTPConnection("127.0.0.1", servers[where][1], timeout=60)
                of_case[name] = servers[where][0]
            rng = random.Random(1)
            for stream in (False, True):
                values = {what: {name: [] for name in CASES} for what in ("CPU a request", "stream's first text" if stream else "whole answer")}
                for r in range(options.rounds):
                    chosen = prompts[r * options.requests:(r + 1) * options.requests]
                    for name in rng.sample(list(CASES), len(CASES)):
                        before = cpu_us(of_case[name])
                        waits = [ask(links[name], keys[name], prompt, stream) for prompt in chosen]
                        spent = (cpu_us(of_case[name]) - before) / len(chosen)
                        for what, value in zip(values, (spent, statistics.median(waits))):
                            values[what][name].append(value)
                for what, by_case in values.items():
                    print(f"\n| {'streamed' if stream else 'not streamed'}: {what} | median | added | 95 % |\n|---|---|---|---|")
                    for name in CASES:
                        added = [a - b for a, b in zip(by_case[name][1:], by_case["nothing taken"][1:])]  # the first round warms up
                        means = sorted(statistics.mean(rng.choices(added, k=len(added))) for _ in range(2000))
                        print(f"| {name} | {statistics.median(by_case[name][1:]):.0f} us | {statistics.mean(added):.0f} us | "
                              f"[{means[50]:.0f}, {means[1949]:.0f}] |", flush=True)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


if __name__ == "__main__":
    main()
