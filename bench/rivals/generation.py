"""Generation beside llama.cpp on the same GGUF files, one after the other in one run: JSON lines and a table of ratios.

    generation.py build/release/bin/retort FILE.gguf … [--out generation.jsonl]
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def last_json(command):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("retort", type=pathlib.Path)
    parser.add_argument("gguf", type=pathlib.Path, nargs="+")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--decode", type=int, default=64, help="tokens of one sequence")
    parser.add_argument("--batch", type=int, default=32, help="tokens of each of 32 sequences")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("generation.jsonl"))
    a = parser.parse_args()

    lines = [{"kernel": platform.release(), "cores": os.cpu_count(), "load_before": os.getloadavg()[0]}]
    print("| file | work | retort tok/s | llama.cpp tok/s | ratio | share of the limit |\n|---|---|---|---|---|---|")
    for gguf in a.gguf:
        repeats = ["--repeats", a.repeats]
        lengths = ["--decode", a.decode, "--sequence-decode", a.batch]
        rival = last_json([sys.executable, HERE / "llama_decode.py", gguf, *repeats, *lengths])
        ours = {}
        for bench in ("prefill", "decode", "batch"):
            extra = {"prefill": ["--chunk", a.chunk], "decode": ["--tokens", a.decode]}
            extra = extra.get(bench, ["--tokens", a.batch])
            ours[bench] = last_json([a.retort, "bench", bench, gguf, "--json", *repeats, *extra])
        lines += [rival, *ours.values()]
        gemm = "share_of_gemm_bf16" if "share_of_gemm_bf16" in ours["prefill"] else "share_of_gemm_f32"
        for bench, key, share in (
            ("prefill", "prompt_512_tok_s", gemm),
            ("decode", "decode_tok_s", "share_of_memory_read"),
            ("batch", "decode_32_tok_s", gemm),
        ):
            mine = ours[bench]["tokens_per_second"]
            limit = share.removeprefix("share_of_").replace("_", " ")
            print(f"| {gguf.name} | {bench} | {mine:.1f} | {rival[key]:.1f} | {mine / rival[key]:.2f} ", end="")
            print(f"| {100 * ours[bench][share]:.0f} % of {limit} |", flush=True)
        a.out.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
