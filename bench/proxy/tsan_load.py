#!/usr/bin/env python3
"""A mixed load on a ThreadSanitizer build: one server with a model, accounts and the event log, and another in front of it
(`--upstream`), asked by threads at once for chats, streams, streams that are left, completions with echo, structured output,
embeddings, metrics and keys that are made and revoked meanwhile. Says how much was answered and what the sanitizer reported.

    cmake --preset tsan && cmake --build --preset tsan --target retort
    bench/proxy/tsan_load.py build/tsan/bin/retort recipes/reasoning/teacher.gguf [SECONDS]

OpenMP's own threads are left out (--threads 1): GCC's runtime is not instrumented, and would be reported for its barriers."""

import collections
import http.client
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

retort, model = (pathlib.Path(a).resolve() for a in sys.argv[1:3])
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 60
folder = pathlib.Path(tempfile.mkdtemp(prefix="retort-tsan-"))
environment = {**os.environ, "TSAN_OPTIONS": f"log_path={folder}/report history_size=4", "RETORT_STORE": str(folder / "store.db")}


def run(*arguments):
    return subprocess.run([retort, *map(str, arguments)], env=environment, capture_output=True, text=True, check=True, cwd=folder).stdout


def serve(name, *options, store):
    process = subprocess.Popen([retort, "serve", *map(str, options), "--port", "0", "--json", "-q"], stdout=subprocess.PIPE,
                               stderr=open(folder / f"{name}.err", "w"), text=True, cwd=folder,
                               env={**environment, "RETORT_STORE": str(folder / store)})
    port = int(json.loads(process.stdout.readline())["base_url"].split(":")[2].split("/")[0])
    return process, port


def account_and_key(store):
    environment["RETORT_STORE"] = str(folder / store)
    (folder / "plan.json").write_text(json.dumps({"limits": {"requests_per_minute": 10**6, "tokens_per_day": 10**10}, "logprobs": True,
                                                  "prompt_logprobs": True, "reasoning": "full"}))
    run("keys", "plan-set", "plan.json", "--name", "all", "-q")
    account = run("keys", "account-create", "load", "--plan", "all").strip()
    return account, json.loads(run("keys", "create", account, "--name", "load", "--json"))["key"]


account, inner_key = account_and_key("store.db")
engine, engine_port = serve("engine", "--model", model, "--name", "m", "--threads", 1, "--http-threads", 2, "--sequences", 8, store="store.db")
outer_account, outer_key = account_and_key("outer.db")
(folder / "inner.key").write_text(inner_key + "\n")
proxy, proxy_port = serve("proxy", "--upstream", f"http://127.0.0.1:{engine_port}/v1", "--upstream-key-file", "inner.key",
                          "--http-threads", 2, store="outer.db")
counts, lock, until = collections.Counter(), threading.Lock(), time.time() + seconds
CHAT = [{"role": "user", "content": "What is the sum of the digits of 85114?"}]


def ask(port, key, rng):
    what = rng.choice(["chat", "stream", "left", "echo", "json", "embeddings", "metrics", "models", "bad"])
    route, body = "/v1/chat/completions", {"model": "m", "messages": CHAT, "max_tokens": rng.choice([4, 24]), "seed": rng.randrange(99)}
    if what in ("stream", "left"):
        body.update(stream=True, stream_options={"include_usage": True})
    elif what == "echo":
        route, body = "/v1/completions", {"model": "m", "prompt": "1+1=2, 2+2=4", "max_tokens": 2, "echo": True, "logprobs": 2}
    elif what == "json":
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": {
            "type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}}}
    elif what == "embeddings":
        route, body = "/v1/embeddings", {"model": "m", "input": ["one", "two"]}
    elif what == "bad":
        body["temperature"] = "hot"
    elif what in ("metrics", "models"):
        route, body = {"metrics": "/metrics", "models": "/v1/models"}[what], None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET" if body is None else "POST", route, None if body is None else json.dumps(body),
                           {"Content-Type": "application/json", "Authorization": "Bearer " + key})
        response = connection.getresponse()
        if what == "left":
            response.read(rng.randrange(1, 200))
        else:
            response.read()
        status = response.status
    finally:
        connection.close()
    with lock:
        counts[f"{what} {status}"] += 1


def client(seed):
    rng = random.Random(seed)
    while time.time() < until:
        port, key = rng.choice([(engine_port, inner_key), (proxy_port, outer_key)])
        try:
            ask(port, key, rng)
        except OSError as error:
            with lock:
                counts[type(error).__name__] += 1


def keys():
    while time.time() < until:
        environment["RETORT_STORE"] = str(folder / "store.db")
        made = json.loads(run("keys", "create", account, "--name", "short", "--json"))
        run("keys", "revoke", made["id"])
        counts["keys made and revoked"] += 1
        time.sleep(1)


threads = [threading.Thread(target=client, args=(seed,)) for seed in range(16)] + [threading.Thread(target=keys)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for process in (proxy, engine):
    process.terminate()
    process.wait(timeout=120)
reports = sorted(folder.glob("report*"))
print(f"{seconds:.0f} s; " + ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
print(f"exit status {engine.returncode}, {proxy.returncode}; {len(reports)} files of reports")
for report in reports:
    print(report.read_text()[:6000])
sys.exit(1 if reports else 0)
