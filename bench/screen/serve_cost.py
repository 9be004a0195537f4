"""Tokens a second with and without `serve --protected`, in turns, over the same requests.
    serve_cost.py RETORT MODEL INDEX [--rounds N] [--requests N] [--tokens N]"""

import argparse
import concurrent.futures
import json
import statistics
import subprocess
import time
import urllib.request

PROMPTS = ["Tell me how bread is baked.", "Why is the sky blue?", "Describe a walk in a forest.", "What does a compiler do?"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("retort")
    parser.add_argument("model")
    parser.add_argument("index")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--swap", action="store_true", help="start the guarded server first")
    parser.add_argument("--same", action="store_true", help="guard neither: what the comparison itself does")
    options = parser.parse_args()
    servers = {}
    order = [("without", []), ("with", [] if options.same else ["--protected", options.index])]
    for name, more in reversed(order) if options.swap else order:
        process = subprocess.Popen([options.retort, "serve", "--model", options.model, "--name", "m", "--port", "0", "--json",
                                    "--sequences", str(options.requests), *more], stdout=subprocess.PIPE, text=True)
        servers[name] = (process, json.loads(process.stdout.readline())["base_url"])

    def ask(url, number):
        body = {"model": "m", "messages": [{"role": "user", "content": PROMPTS[number % 4]}], "max_tokens": options.tokens,
                "temperature": 1.0, "seed": number, "stream": False}
        request = urllib.request.Request(url + "/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            told = json.loads(answer.read())
        return told["usage"]["completion_tokens"], told["choices"][0]["finish_reason"]

    rates = {name: [] for name in servers}
    cut = 0
    with concurrent.futures.ThreadPoolExecutor(options.requests) as pool:
        for turn in range(options.rounds + 1):
            for name in (("without", "with") if turn % 2 else ("with", "without")):
                start = time.perf_counter()
                told = list(pool.map(lambda i, u=servers[name][1]: ask(u, i), range(options.requests)))
                if turn:  # the first warms up
                    rates[name].append(sum(t for t, _ in told) / (time.perf_counter() - start))
                cut += sum(reason == "content_filter" for _, reason in told)
    for process, _ in servers.values():
        process.terminate()
    ratios = [b / a for a, b in zip(rates["without"], rates["with"])]
    for name, values in rates.items():
        print(f"{name}: {statistics.median(values):.1f} tokens/s (median of {len(values)}; {min(values):.1f} to {max(values):.1f})")
    print(f"with / without, by pairs: median {statistics.median(ratios):.4f}, {min(ratios):.4f} to {max(ratios):.4f}; {cut} answers cut")


main()
