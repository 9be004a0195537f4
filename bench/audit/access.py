#!/usr/bin/env python3
"""What an address alone tells: suspects of prose.py and remains.py behind `retort serve`, by text only and by echoed
log-probabilities, guilty and innocent, of the teacher's tokenizer and of another. Needs the folders of both scripts.

    RETORT_BIN=build/release/bin/retort nice -n 15 python3 bench/audit/access.py FOLDER --text kjv.raw --seeds both

Appends to FOLDER/access.jsonl and goes on where it was stopped."""

import json
import random
import shutil
import time

import factory
import prose

WAYS = (
    ("text", ["--access", "text", "--primary", "radioactivity-closed", "--tests", "radioactivity-closed,twin-continuation"]),
    ("text, stopped early", ["--access", "text", "--primary", "radioactivity-closed", "--stop-early"]),
    ("log-probabilities", ["--access", "logprobs", "--primary", "twin-likelihood", "--tests", "twin-likelihood,radioactivity-open"]),
)


def main():
    args = prose.arguments().parse_args()
    made = prose.Prose(args.folder, args.text, args.python, args)
    results = made.folder / "access.jsonl"
    done = {json.loads(line)["name"] for line in results.read_text().splitlines()} if results.exists() else set()
    clean = made.serve_and_collect("clean", made.heads(0, args.pool))
    innocent = made.student(f"{args.seeds}-innocent", random.Random("innocent").sample(clean, args.examples), 5)
    cases = (
        ("10 % of its text marked", made.folder / f"{args.seeds}-10-0/model", f"plant-{args.seeds}-10-0"),
        ("never saw it", innocent, f"plant-{args.seeds}-10-0"),
        ("another tokenizer, all marked", made.folder / "remains-0-other-tokenizer/model", "plant-remains-0"),
        ("another tokenizer, never saw it", made.folder / "remains-0-innocent-other-tokenizer/model", "plant-remains-0"),
    )
    for what, model, plant in cases:
        if not model.exists():
            print(f"{what}: not made yet", flush=True)
            continue
        with factory.served(made.folder, model, "suspect", 32) as base:
            for way, options in WAYS:
                name = f"{what}, {way}"
                if name in done or (args.until and time.strftime("%H:%M", time.gmtime()) >= args.until):
                    continue
                case = made.folder / "access.case"
                shutil.rmtree(case, ignore_errors=True)
                factory.retort("audit", "plan", case, "--plant", plant, "--secret", f"{plant}.key", "--teacher", made.teacher, "--suspect",
                               base, "--suspect-model", "suspect", *options, "--answers", args.answers, "--answer-tokens", args.tokens,
                               "--alpha", "1e-6", "--max-texts", 400, "--max-twins", 400, cwd=made.folder)
                run = factory.retort("audit", "run", case, "--plant", plant, "--json", cwd=made.folder)
                found = {one["test"]: {k: one[k] for k in ("log_p", "n", "estimate")} for one in json.loads(run.stdout)}
                asked = {}
                for test in found:
                    evidence = json.loads((case / f"evidence/{test}.json").read_text())
                    asked[test] = evidence.get("answers", evidence.get("texts", len(evidence.get("pairs", []))))
                line = {"name": name, "what": what, "way": way, "tests": found, "asked": asked}
                with results.open("a") as out:
                    out.write(json.dumps(line) + "\n")
                print(name, {k: [asked[k], v["n"], round(v["estimate"][0], 4), round(v["log_p"], 2)] for k, v in found.items()},
                      flush=True)


if __name__ == "__main__":
    main()
