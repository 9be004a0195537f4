#!/usr/bin/env python3
"""`retort serve` beside llama.cpp's llama-server on the same GGUF file: 1, 8 and 32 streams at once, tokens a second and the
time to the first token, the servers in turn on the same cores. Standard library only.

    serving.py RETORT LLAMA_SERVER MODEL.gguf [ROUNDS [TOKENS]]

Each client asks one streamed chat after another, greedily, its prompt its own; tokens are as the server's usage counts
them."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
import urllib.request

LEVELS = {1: 3, 8: 2, 32: 1}  # streams at once: chats of each
PORT = 18090
TOPICS = "rivers bread clocks bees glass winter trains salt maps violins".split()


async def chat(number, tokens):
    body = json.dumps({"model": "m", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "max_tokens": tokens,
                       "messages": [{"role": "user", "content": f"Tell me about {TOPICS[number % 10]}, as story number {number}, at length."}]})
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    start = time.perf_counter()
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "
                 f"{len(body)}\r\n\r\n{body}".encode())
    first, used = None, 0
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if event.get("choices") and event["choices"][0]["delta"].get("content") and first is None:
            first = time.perf_counter() - start
        used = (event.get("usage") or {}).get("completion_tokens", used)
    writer.close()
    return first, used


async def level(streams, chats, tokens, base):
    async def client(index):
        return [await chat(base + index + 100 * i, tokens) for i in range(chats)]

    start = time.perf_counter()
    done = [each for some in await asyncio.gather(*(client(i) for i in range(streams))) for each in some]
    seconds = time.perf_counter() - start
    firsts = [first for first, _ in done if first is not None]
    return sum(used for _, used in done) / seconds, statistics.median(firsts), max(firsts)


def measure(command, tokens, round_number):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                if urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health").status == 200:
                    break
            except OSError:
                time.sleep(0.1)
        asyncio.run(level(1, 1, 8, 9000))  # warm
        return {streams: asyncio.run(level(streams, chats, tokens, 1000 * round_number + 10000 * streams)) for streams, chats in LEVELS.items()}
    finally:
        process.terminate()
        process.wait()


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    retort, llama, model = sys.argv[1:4]
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 2
    tokens = int(sys.argv[5]) if len(sys.argv) > 5 else 64
    commands = {"retort": [retort, "serve", "--model", model, "--name", "m", "--port", str(PORT), "--threads", "2", "--sequences", "32", "--context",
                           "512", "-q"],
                "llama-server": [llama, "-m", model, "-t", "2", "--port", str(PORT), "-np", "32", "-c", str(32 * 512), "--no-webui"]}
    print("| round | server | streams | tokens/s | first token, median ms | worst ms |\n|---|---|---|---|---|---|")
    for round_number in range(rounds):
        for name, command in commands.items():
            for streams, (rate, median, worst) in measure(command, tokens, round_number).items():
                print(f"| {round_number + 1} | {name} | {streams} | {rate:.1f} | {1000 * median:.1f} | {1000 * worst:.1f} |", flush=True)


if __name__ == "__main__":
    main()
