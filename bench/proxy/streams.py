#!/usr/bin/env python3
"""Slow streams through `retort serve --upstream`: how many are held at once, what one costs in memory, whether each
arrives whole. Standard library only, loopback only.

    streams.py RETORT [STREAMS [FRAMES [GAP_SECONDS]]]

A mock upstream sends each stream a frame every GAP seconds; the client checks that every stream brought every frame
and [DONE]. Memory is the proxy's resident set before the first stream, and with all of them open and idle."""

import asyncio
import json
import multiprocessing
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from soak import read_message, read_process


def raise_descriptors():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def upstream(port, frames, gap):
    async def serve(reader, writer):
        try:
            while True:
                await read_message(reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                for i in [*range(frames), None]:
                    frame = json.dumps({"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [
                        {"index": 0, "delta": {"content": f" word{i}"}}]}) if i is not None else "[DONE]"
                    data = f"data: {frame}\n\n".encode()
                    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                    await writer.drain()
                    await asyncio.sleep(gap if i is not None else 0)
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def one(port, key, opened, frames):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": "m", "stream": True, "max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]})
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    seen, begun = 0, time.monotonic()
    while seen < frames:
        await reader.readuntil(b"word")
        seen += 1
        if seen == 1:
            opened.append(time.monotonic() - begun)
    await reader.readuntil(b"[DONE]")
    writer.close()
    return head.startswith(b"HTTP/1.1 200 ") and seen == frames


async def run(retort, port, streams, frames, gap):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "plan.json").write_text('{"limits": {"requests_per_minute": 1000000, "tokens_per_day": 1000000000000}, "reasoning": "full"}')

        def keys(*arguments):
            return json.loads(subprocess.run([retort, "keys", *map(str, arguments), "--store", folder / "s.db", "--json"],
                                             capture_output=True, text=True, check=True).stdout or "null")

        keys("plan-set", folder / "plan.json", "--name", "bench")
        key = keys("create", keys("account-create", "bench", "--plan", "bench")["id"], "--name", "bench")["key"]
        process = subprocess.Popen([retort, "serve", "--upstream", f"http://127.0.0.1:{port}/v1", "--store", folder / "s.db", "--port", "0",
                                    "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        at = int(json.loads(process.stdout.readline())["base_url"].split(":")[2].split("/")[0])
        try:
            opened = []
            await asyncio.sleep(0.5)
            before = read_process(process.pid)
            start = time.monotonic()
            tasks = []
            for i in range(streams):
                tasks.append(asyncio.create_task(one(at, key, opened, frames)))
                if i % 50 == 49:
                    await asyncio.sleep(0.02)
            while len(opened) < streams and time.monotonic() - start < 60:
                await asyncio.sleep(0.05)
            all_open = time.monotonic() - start
            held = read_process(process.pid)
            whole = sum(await asyncio.gather(*tasks))
            seconds = time.monotonic() - start
            after = read_process(process.pid)
            print(json.dumps({"streams": streams, "opened": len(opened), "all open after s": round(all_open, 2), "whole": whole,
                              "frames each": frames, "gap s": gap, "seconds": round(seconds, 2),
                              "rss before kB": before["rss_kb"], "rss all open kB": held["rss_kb"], "rss after kB": after["rss_kb"],
                              "kB a stream": round((held["rss_kb"] - before["rss_kb"]) / streams, 2), "fds all open": held["fds"],
                              "proxy CPU s": round(after["cpu_s"] - before["cpu_s"], 2)}, indent=1))
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    raise_descriptors()
    sizes = [int(sys.argv[2]) if len(sys.argv) > 2 else 2000, int(sys.argv[3]) if len(sys.argv) > 3 else 10]
    gap_seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 2.0
    ours, theirs = multiprocessing.Pipe()
    mock = multiprocessing.Process(target=upstream, args=(theirs, sizes[1], gap_seconds), daemon=True)
    mock.start()
    asyncio.run(run(sys.argv[1], ours.recv(), *sizes, gap_seconds))
    mock.terminate()
