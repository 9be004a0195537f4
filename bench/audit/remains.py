#!/usr/bin/env python3
"""What remains of a positive after a student of a student, another tokenizer, paraphrase, mixing with text made by rule,
further training and quantisation. Needs the folder of factory.py, and appends to its results.jsonl (kind "remains").

    RETORT_BIN=build/release/bin/retort nice -n 15 python3 bench/audit/remains.py FOLDER"""

import argparse
import json
import pathlib
import random
import re
import sys
import time

import factory

sys.path.insert(0, str(factory.ROOT / "tests/e2e"))


def paraphrased(lines, share, rng):
    """Words and numbers put in place of others, drawn from the same texts: the attacker's cheapest removal. The records'
    seals no longer fit, which training does not look at."""
    pattern = r"[A-Za-z]{3,}|[0-9]+"
    words = [w for line in lines[:200] for w in re.findall(pattern, json.loads(line)["answer"]["reasoning"])]
    out = []
    for line in lines:
        record = json.loads(line)
        for part in ("content", "reasoning"):
            record["answer"][part] = re.sub(
                pattern, lambda m: rng.choice(words) if rng.random() < share else m.group(0), record["answer"].get(part) or "")
        out.append(json.dumps(record))
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--examples", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--until", default="")
    args = parser.parse_args()
    made = factory.Factory(args.folder, args.examples, args.epochs, 1.3, 40)
    results = made.folder / "results.jsonl"
    done = {json.loads(line)["name"] for line in results.read_text().splitlines()}
    plant, parent = made.folder / "plant-positive-100-0", made.folder / "positive-100-0/model"
    marked = (made.folder / "marked-positive-100-0/records.jsonl").read_text().splitlines()
    clean = (made.folder / "clean/records.jsonl").read_text().splitlines()
    reference = made.folder / "reference/model"
    rng = random.Random(7)

    def one(name, suspect, tests=factory.TESTS, **more):
        if name in done or (args.until and time.strftime("%H:%M", time.gmtime()) >= args.until):
            return
        try:
            suspect = suspect()
            _, found = made.audit(name.replace(" ", "-"), plant, suspect, reference, tests=tests)
        except RuntimeError as error:
            print(f"{name}: {error}", flush=True)
            return
        with results.open("a") as out:
            out.write(json.dumps({"name": name, "kind": "remains", "tests": found, **more}) + "\n")
        print(json.dumps({"name": name, **{k: round(v["log_p"], 2) for k, v in found.items()}}), flush=True)

    def quantised(kind):
        output = made.folder / f"parent.{kind}.gguf"
        if not output.exists():
            factory.retort("export", parent, "--type", kind, "--output", output, cwd=made.folder)
        return output

    def grandchild():
        said = made.serve_and_collect("said-by-student", made.prompts[:args.examples], teacher=parent, temperature=1.0)
        return made.train("grandchild", said, 51)

    def other_tokenizer():
        import harness
        folder = made.folder / "bytes"
        if not folder.exists():
            harness.make_tiny_model(folder)
        return made.train("bytes-student", marked, 52, tokenizer=folder)

    one("quantised to q8_0", lambda: quantised("q8_0"))
    one("quantised to q4_0", lambda: quantised("q4_0"))
    one("further training on clean text", lambda: made.train("further", rng.sample(clean, 1500), 53, start=parent, epochs=4))
    one("a student of the student", grandchild)
    for share in (0.1, 0.3, 0.6):
        one(f"{share:.0%} of words replaced", lambda: made.train(f"para-{share}", paraphrased(marked, share, rng), 54))
    one("another tokenizer (bytes)", other_tokenizer, tests="twin-likelihood,radioactivity-open,radioactivity-closed")

    def mixed(share):
        factory.retort("problems", "--count", 1500, "--seed", 9, "--worked", "--output", "worked.jsonl", cwd=made.folder)
        worked = (made.folder / "worked.jsonl").read_text().splitlines()
        keep = int(len(marked) * share)
        return made.train(f"mixed-{share}", marked[:keep] + worked[:len(marked) - keep], 55)

    one("half of it worked problems, no model's", lambda: mixed(0.5))


if __name__ == "__main__":
    main()
