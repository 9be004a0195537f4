#!/usr/bin/env python3
"""A long run of `retort serve --upstream` with keys, limits and event log under a light mixed load, to see whether
memory, descriptors, threads or latencies grow. Standard library only, loopback only.

    soak.py RETORT FOLDER [SECONDS [REQUESTS_PER_SECOND]]

The mixture: plain answers, whole streams, streams that the client leaves, keys that are wrong, bodies that are no JSON,
an account whose limit is spent, lists of models. FOLDER/samples.jsonl gets a line every 30 s, and FOLDER/transcript.md
is written anew after each, so that a run that is cut short has its transcript too."""

import asyncio
import json
import os
import pathlib
import platform
import random
import subprocess
import sys
import time

EVERY = 30
FRAMES, FRAME_GAP = 12, 0.05
MIXTURE = [("plain", 60), ("stream", 15), ("aborted", 10), ("wrong key", 5), ("bad body", 4), ("spent", 4), ("models", 2)]
EXPECTED = {"plain": 200, "stream": 200, "aborted": 200, "wrong key": 401, "bad body": 400, "spent": 429, "models": 200}
USAGE = {"prompt_tokens": 20, "completion_tokens": FRAMES, "total_tokens": 20 + FRAMES}


async def read_message(reader):
    """The head's first line and the body, by Content-Length alone."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head, await reader.readexactly(length)


async def upstream(reader, writer):
    answer = json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE,
                         "choices": [{"index": 0, "finish_reason": "stop",
                                      "message": {"role": "assistant", "content": "A short answer, as a model gives."}}]})
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    try:
        while True:
            head, body = await read_message(reader)
            if head.startswith(b"GET"):
                answer_now = '{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"x"}]}'
            else:
                request = json.loads(body)
                answer_now = None if request.get("stream") else answer
            if answer_now is not None:
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer_now)}\r\n\r\n"
                             f"{answer_now}".encode())
                await writer.drain()
                continue
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

            async def send(text):
                data = f"data: {text}\n\n".encode()
                writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                await writer.drain()

            for i in range(FRAMES):
                delta = {"content": f" word{i}"}
                await send(json.dumps({**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
                await asyncio.sleep(FRAME_GAP)
            if request.get("stream_options", {}).get("include_usage"):
                await send(json.dumps({**frame, "choices": [], "usage": USAGE}))
            await send("[DONE]")
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


class Load:
    def __init__(self, port, key, spent_key):
        self.port, self.key, self.spent_key = port, key, spent_key
        self.idle, self.latencies, self.counts, self.wrong = [], {}, {}, []
        self.random = random.Random(1)

    async def one(self, kind):
        key = {"wrong key": "rk-0000000000000000-" + "a" * 43, "spent": self.spent_key}.get(kind, self.key)
        body = {"model": "m", "max_tokens": 16, "messages": [{"role": "user", "content": "Say something short."}]}
        if kind in ("stream", "aborted"):
            body["stream"] = True
        text = '{"model": "m", ' if kind == "bad body" else json.dumps(body)
        method, path = ("GET", "/v1/models") if kind == "models" else ("POST", "/v1/chat/completions")
        if kind == "models":
            text = ""
        reused = self.idle and self.random.random() < 0.9
        reader, writer = self.idle.pop() if reused else await asyncio.open_connection("127.0.0.1", self.port)
        start = time.monotonic()
        keep = False
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
                         f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            chunked = b"transfer-encoding: chunked" in head.lower()
            if kind == "aborted":
                await reader.readuntil(b"word2")
            elif chunked:
                await reader.readuntil(b"0\r\n\r\n")
            else:
                lengths = [int(l[15:]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length:")]
                await reader.readexactly(lengths[0])
            keep = kind != "aborted" and b"connection: close" not in head.lower()
            if status != EXPECTED[kind]:
                self.wrong.append(f"{kind}: {status}")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.wrong.append(f"{kind}: {type(error).__name__}{' on a reused connection' if reused else ''}")
        if keep:
            self.idle.append((reader, writer))
        else:
            writer.close()
        self.latencies.setdefault(kind, []).append(time.monotonic() - start)
        self.counts[kind] = self.counts.get(kind, 0) + 1


def read_process(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    ticks = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return {"rss_kb": int(fields["VmRSS"].split()[0]), "threads": int(fields["Threads"]),
            "fds": len(os.listdir(f"/proc/{pid}/fd")), "cpu_s": (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")}


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))] if values else 0.0


def slope_per_hour(samples, name):
    """Least squares, and its standard error as though samples were independent."""
    n = len(samples)
    if n < 3:
        return 0.0, 0.0
    xs, ys = [s["t"] / 3600 for s in samples], [s[name] for s in samples]
    mx, my = sum(xs) / n, sum(ys) / n
    sxx = sum((x - mx) ** 2 for x in xs)
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sxx
    rest = sum((y - my - slope * (x - mx)) ** 2 for x, y in zip(xs, ys))
    return slope, (rest / (n - 2) / sxx) ** 0.5


def write_transcript(folder, about, samples, load, ended):
    lines = ["# A soak of the proxy", "", about, "", f"State: {ended}.", ""]
    lines += ["| request | count | expected status |", "|---|---|---|"]
    lines += [f"| {kind} | {count} | {EXPECTED[kind]} |" for kind, count in sorted(load.counts.items())]
    lines += ["", f"Answers other than expected: {len(load.wrong)}" + (f", first: {load.wrong[:5]}" if load.wrong else "") + ".", ""]
    settled = [s for s in samples if s["t"] >= 600]
    for name, unit in (("rss_kb", "kB"), ("fds", "descriptors"), ("threads", "threads"), ("plain_p50_ms", "ms")):
        slope, error = slope_per_hour(settled, name)
        lines.append(f"- {name}: slope after the first ten minutes {slope:+.2f} {unit} an hour (standard error {error:.2f})")
    lines += ["", "| t, s | RSS, kB | fds | threads | CPU, s | plain P50, ms | plain P99, ms | requests so far |", "|---|---|---|---|---|---|---|---|"]
    step = max(1, len(samples) // 60)
    shown = samples[::step] + ([samples[-1]] if samples and (len(samples) - 1) % step else [])
    lines += [f"| {s['t']:.0f} | {s['rss_kb']} | {s['fds']} | {s['threads']} | {s['cpu_s']:.1f} | {s['plain_p50_ms']:.2f} | "
              f"{s['plain_p99_ms']:.2f} | {s['requests']} |" for s in shown]
    temporary = folder / "transcript.md.new"
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(folder / "transcript.md")


async def run(retort, folder, seconds, rate):
    folder.mkdir(parents=True, exist_ok=True)
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    store = folder / "store.db"

    def keys(*arguments):
        done = subprocess.run([retort, "keys", *map(str, arguments), "--store", store, "--json"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout) if done.stdout else None

    made = []
    for name, limits in (("wide", {"requests_per_minute": 100000, "tokens_per_minute": 100000000, "tokens_per_day": 10**12}),
                         ("narrow", {"tokens_per_day": 1})):
        (folder / "plan.json").write_text(json.dumps({"limits": limits, "prompt_price": 150000, "completion_price": 600000}))
        keys("plan-set", folder / "plan.json", "--name", name)
        account = keys("account-create", name, "--plan", name)["id"]
        made.append(keys("create", account, "--name", "soak")["key"])
    process = subprocess.Popen([retort, "serve", "--upstream", url, "--store", store, "--port", "0", "--json", "--event-days", "1"],
                               stdout=subprocess.PIPE, stderr=open(folder / "serve.log", "w"), text=True)
    port = int(json.loads(process.stdout.readline())["base_url"].split(":")[2].split("/")[0])
    load, samples = Load(port, *made), []
    version = subprocess.run([retort, "--version"], capture_output=True, text=True).stdout.strip()
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    about = (f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, {model}, {os.cpu_count()} cores shared with other work, "
             f"{version}{', commit ' + os.environ['SOAK_COMMIT'] if os.environ.get('SOAK_COMMIT') else ''}; `soak.py` for {seconds} s "
             f"at {rate} requests a second; SQLite store, keys, limits, event log.")
    start = last = time.monotonic()
    tasks, kinds, weights = set(), [k for k, _ in MIXTURE], [w for _, w in MIXTURE]
    number, log = 0, open(folder / "samples.jsonl", "w")
    try:
        while (now := time.monotonic()) - start < seconds:
            task = asyncio.create_task(load.one(load.random.choices(kinds, weights)[0]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
            if now - last >= EVERY:
                last = now
                plain = [1000 * t for t in load.latencies.get("plain", [])]
                samples.append({"t": round(now - start, 1), **read_process(process.pid), "requests": number,
                                "plain_p50_ms": round(quantile(plain, 0.5), 3), "plain_p99_ms": round(quantile(plain, 0.99), 3)})
                load.latencies.clear()
                log.write(json.dumps(samples[-1]) + "\n")
                log.flush()
                write_transcript(folder, about, samples, load, f"running, {samples[-1]['t']:.0f} s of {seconds}")
            # A machine that stood still is not made up for by a burst.
            await asyncio.sleep(max(0.0, min(1 / rate, start + number / rate - time.monotonic()) if start + number / rate > time.monotonic() else 1 / rate))
        await asyncio.gather(*tasks)
        process.terminate()
        process.wait(60)
        usage = {row["unit"]: row["used"] for row in keys("usage", "--per", "day") if row["unit"] in ("requests", "tokens")}
        events = subprocess.run([retort, "keys", "events", str(store) + ".events"], capture_output=True, text=True).stdout.count("\n")
        write_transcript(folder, about, samples, load, f"whole: {seconds} s; exit status {process.returncode}; ledger {usage}; "
                         f"{events} events for {sum(load.counts.values())} requests")
    finally:
        if process.poll() is None:
            process.kill()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    asyncio.run(run(sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), float(sys.argv[3]) if len(sys.argv) > 3 else 7200,
                    float(sys.argv[4]) if len(sys.argv) > 4 else 20))
