"""All rivals one after the other, and optionally our own program beside them: JSON lines, then a table.

    run.py TEACHER.gguf [--text FILE] [--ours 'build/release/bin/retort bench train --json' ...] [--out rivals.jsonl]

Each --ours is a command whose standard output holds JSON lines; it runs in the same session, between the rivals, so that
ratios are of one machine in one state. --only names some: pytorch, llama, tokenizers, ours.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def machine():
    model = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "machine": model,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "kernel": platform.release(),
        "date": datetime.date.today().isoformat(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", type=pathlib.Path, nargs="+", help="files for llama.cpp; the first one's tokenizer too")
    parser.add_argument("--text", type=pathlib.Path, help="for tokenizers; default: this repository's documents")
    parser.add_argument("--ours", action="append", default=[])
    parser.add_argument("--only", action="append", choices=["pytorch", "llama", "tokenizers", "ours"])
    parser.add_argument("--shapes", nargs="*", default=["135m", "25m"])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("rivals.jsonl"))
    a = parser.parse_args()
    only = a.only or ["pytorch", "llama", "tokenizers", "ours"]
    text = a.text
    if text is None and "tokenizers" in only:
        root = HERE.parents[1]
        text = a.out.with_suffix(".txt")
        files = sorted([*root.glob("docs/**/*.md"), *root.glob("src/**/*.cpp"), *root.glob("src/**/*.h")])
        text.write_bytes(b"".join(file.read_bytes() for file in files))

    commands = []
    if "pytorch" in only:
        batches = {"135m": ["--batch", "2"], "25m": ["--batch", "4"]}
        commands += [[sys.executable, HERE / "pytorch_train.py", "--shape", s, *batches.get(s, [])] for s in a.shapes]
    if "llama" in only:
        commands += [[sys.executable, HERE / "llama_decode.py", gguf] for gguf in a.gguf]
    if "tokenizers" in only:
        commands.append([sys.executable, HERE / "tokenizers_speed.py", a.gguf[0], text])
    if "ours" in only:
        commands += [shlex.split(command) for command in a.ours]

    results = [machine()]
    if results[0]["load_before"] > 0.5:
        print(f"warning: the machine is busy (load {results[0]['load_before']:.1f}): figures are preliminary")
    for command in commands:
        shown = " ".join(str(part) for part in command)
        print(f"$ {shown}", flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        for line in done.stdout.splitlines():
            try:
                result = json.loads(line)
            except ValueError:
                continue
            print(line, flush=True)
            results.append({"command": shown} | result)
        if done.returncode != 0:
            results.append({"command": shown, "failed": done.returncode})
    a.out.write_text("".join(json.dumps(result) + "\n" for result in results))

    print("\n| who | what | figures |\n|---|---|---|")
    for result in results[1:]:
        what = " ".join(str(result[key]) for key in ("setting", "shape", "batch", "file", "text") if key in result)
        figures = ", ".join(
            f"{key} {value / 1e9:.2f} GB" if key.endswith("rss_bytes") else f"{key} {value}"
            for key, value in result.items()
            if key.endswith(("_s", "rss_bytes", "failed")) and isinstance(value, (int, float))
        )
        print(f"| {result.get('rival', 'retort')} | {what} | {figures} |")


if __name__ == "__main__":
    main()
