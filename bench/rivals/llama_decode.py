"""llama.cpp on one GGUF: prompt, decoding of one sequence, and decoding of many; tokens/s, one JSON line.

As llama-bench and llama-batched-bench measure it: random tokens, no sampling, best of --repeats after a warm-up.
"""

import argparse
import json
import pathlib
import random
import time

import llamacpp


def timed(repeats, work):
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--sequences", type=int, default=32, help="decoded together; 0: leave out")
    parser.add_argument("--sequence-prompt", type=int, default=32)
    parser.add_argument("--sequence-decode", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()

    start = time.perf_counter()
    context = max(a.prompt, 1 + a.decode, a.sequences * (a.sequence_prompt + a.sequence_decode))
    model = llamacpp.Model(a.gguf, context=context, batch=512, sequences=max(1, a.sequences), threads=a.threads)
    load_seconds = time.perf_counter() - start
    draw = random.Random(1)

    def token():
        return draw.randrange(3, model.vocab_size)

    def prompt(length):
        for begin in range(0, length, 512):
            n = min(512, length - begin)
            last = [int(begin + i + 1 == length) for i in range(n)]
            model.decode([token() for _ in range(n)], range(begin, begin + n), [0] * n, last)

    def prefill():
        model.clear()
        prompt(a.prompt)

    def decode():
        model.clear()
        for i in range(a.decode):
            model.decode([token()], [i], [0], [1])

    def many():
        """Seconds of the decoding alone, the prompts apart."""
        model.clear()
        for sequence in range(a.sequences):
            n = a.sequence_prompt
            model.decode([token() for _ in range(n)], range(n), [sequence] * n, [0] * (n - 1) + [1])
        begin = time.perf_counter()
        for i in range(a.sequence_decode):
            n = a.sequences
            model.decode([token() for _ in range(n)], [a.sequence_prompt + i] * n, range(n), [1] * n)
        return time.perf_counter() - begin

    result = {
        "rival": "llama.cpp",
        "file": a.gguf.name,
        "bytes": a.gguf.stat().st_size,
        "threads": a.threads,
        "load_s": round(load_seconds, 3),
        f"prompt_{a.prompt}_tok_s": round(a.prompt / timed(a.repeats, prefill), 1),
        "decode_tok_s": round(a.decode / timed(a.repeats, decode), 1),
    }
    if a.sequences:
        best = min(many() for _ in range(a.repeats))
        result[f"decode_{a.sequences}_tok_s"] = round(a.sequences * a.sequence_decode / best, 1)
    print(json.dumps(result | llamacpp.description()))


if __name__ == "__main__":
    main()
