"""Tokens a second with and without `serve --protected`: three servers that differ in nothing else, "a" and "b" without the guard
and "guarded" with it, answer the same short bursts of requests, in an order drawn anew each round; a/b shows what the
comparison itself does. Servers are started again for each block, in another order, since one process can be faster than another of
the same program by where its memory happens to lie. Ratios are of rounds; their mean's interval is a bootstrap by block and round.
    serve_cost.py RETORT MODEL INDEX [--blocks N] [--rounds N] [--requests N] [--tokens N] [--limit SECONDS]"""

import argparse
import concurrent.futures
import http.client
import json
import math
import os
import random
import subprocess
import time
import urllib.parse

PROMPTS = ["Tell me how bread is baked.", "Why is the sky blue?", "Describe a walk in a forest.", "What does a compiler do?",
           "Who was the first to sail around the world?", "Give advice to a new teacher.", "What is a prime number?",
           "Write about the sea in winter."]
NAMES = ("a", "b", "guarded")


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("retort")
    parser.add_argument("model")
    parser.add_argument("index")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds, after which no round is begun")
    options = parser.parse_args()
    rng, began = random.Random(1), time.monotonic()
    rows, cut, cpu = [], 0, {name: [0.0, 0] for name in NAMES}  # (block, {name: rate}); processor seconds, tokens

    def ask(url, number):
        body = {"model": "m", "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}], "max_tokens": options.tokens,
                "temperature": 1.0, "seed": number, "stream": options.stream, "logit_bias": {}}
        if options.stream:
            body["stream_options"] = {"include_usage": True}
        place = urllib.parse.urlparse(url)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=600)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        heard = connection.getresponse().read().decode()
        connection.close()
        if options.stream:
            frames = [json.loads(line[6:]) for line in heard.splitlines() if line.startswith("data: {")]
            usage = next(f["usage"] for f in frames if f.get("usage"))
            reasons = [c["finish_reason"] for f in frames for c in f["choices"] if c.get("finish_reason")]
            return usage["completion_tokens"], reasons[-1]
        told = json.loads(heard)
        return told["usage"]["completion_tokens"], told["choices"][0]["finish_reason"]

    with concurrent.futures.ThreadPoolExecutor(options.requests) as pool:
        for block in range(options.blocks):
            servers = {}
            for name in rng.sample(NAMES, len(NAMES)):
                more = ["--protected", options.index] if name == "guarded" else []
                process = subprocess.Popen([options.retort, "serve", "--model", options.model, "--name", "m", "--port", "0", "--json",
                                            "--sequences", str(options.requests), *more], stdout=subprocess.PIPE, text=True,
                                           env={**os.environ, "OMP_WAIT_POLICY": "passive"})
                servers[name] = (process, json.loads(process.stdout.readline())["base_url"])
            for turn in range(options.rounds + 1):
                if time.monotonic() - began > options.limit:
                    break
                rates, first = {}, (block * 1000 + turn) * options.requests
                for name in rng.sample(NAMES, len(NAMES)):
                    process, url = servers[name]
                    before, start = processor_seconds(process.pid), time.perf_counter()
                    told = list(pool.map(lambda i, u=url: ask(u, first + i), range(options.requests)))
                    rates[name] = sum(t for t, _ in told) / (time.perf_counter() - start)
                    if turn:  # the first warms up
                        cpu[name][0] += processor_seconds(process.pid) - before
                        cpu[name][1] += sum(t for t, _ in told)
                        cut += sum(reason == "content_filter" for _, reason in told)
                if turn:
                    rows.append((block, rates))
            for process, _ in servers.values():
                process.terminate()
            for process, _ in servers.values():
                process.wait()

    def interval(one, other):
        logs = {}
        for block, rates in rows:
            logs.setdefault(block, []).append(math.log(rates[one] / rates[other]))
        mean = lambda values: sum(values) / len(values)  # noqa: E731
        drawn = []
        for _ in range(4000):
            picked = [rng.choice(logs[block]) for block in rng.choices(list(logs), k=len(logs)) for _ in logs[block]]
            drawn.append(mean(picked))
        drawn.sort()
        return (math.exp(mean([v for values in logs.values() for v in values])), math.exp(drawn[100]), math.exp(drawn[-101]),
                [round(math.exp(mean(values)), 4) for values in logs.values()])

    print(f"{len(rows)} rounds in {options.blocks} blocks, {options.requests} answers of {options.tokens} tokens a round and server"
          f"{', streamed' if options.stream else ''}")
    for name in NAMES:
        rates = sorted(rates[name] for _, rates in rows)
        print(f"{name}: median {rates[len(rates) // 2]:.1f} tokens/s ({rates[0]:.1f} to {rates[-1]:.1f}); "
              f"{1e6 * cpu[name][0] / max(cpu[name][1], 1):.0f} µs of processor time a token")
    for one, other in (("a", "b"), ("guarded", "a"), ("guarded", "b")):
        value, low, high, blocks = interval(one, other)
        print(f"{one} / {other}: {value:.4f} (95 %: {low:.4f} to {high:.4f}); by block {blocks}")
    print(f"{cut} answers cut")


main()
