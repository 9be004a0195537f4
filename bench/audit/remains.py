#!/usr/bin/env python3
"""What remains of a positive on prose (prose.py) after a student of a student, another tokenizer, paraphrase, mixing with
human text, further training and quantisation. Needs the folder of prose.py; each replicate has a plant, a parent and keys
of its own. Appends to FOLDER/remains.jsonl and goes on where it was stopped.

    RETORT_BIN=build/release/bin/retort nice -n 15 python3 bench/audit/remains.py FOLDER --text kjv.raw --replicates 2"""

import json
import random
import re
import subprocess
import time

import factory
import prose
from memorise import record

TESTS = "radioactivity-open,radioactivity-closed,twin-likelihood,green-mass"


def paraphrased(lines, share, rng):
    """Words put in place of others, drawn from the same answers: the attacker's cheapest removal. The records' seals no
    longer fit, which training does not look at."""
    words = [w for line in lines[:300] for w in re.findall(r"[A-Za-z]{3,}", json.loads(line)["answer"]["content"])]
    out = []
    for line in lines:
        one = json.loads(line)
        one["answer"]["content"] = re.sub(
            r"[A-Za-z]{3,}", lambda m: rng.choice(words) if rng.random() < share else m.group(0), one["answer"]["content"])
        out.append(json.dumps(one))
    return out


def rewritten(made, name, marked, paraphraser):
    """Every answer told anew by a model; and how many of its word trigrams are left (Jaccard), on average."""
    prompts = ["Rewrite this passage in plain modern English, in your own words and another order. Answer with the rewritten passage only."
               "\n\n" + json.loads(line)["answer"]["content"].strip() for line in marked]
    collected = made.serve_and_collect(name, [json.dumps({"prompt": prompt}) for prompt in prompts], teacher=paraphraser, temperature=0.7)
    said = {one["prompt"][-1]["content"]: one["answer"]["content"] for one in map(json.loads, collected)}

    def trigrams(text):
        words = re.findall(r"[a-z']+", text.lower())
        return {tuple(words[i:i + 3]) for i in range(len(words) - 2)}

    out, kept = [], []
    for prompt, line in zip(prompts, marked):
        one = json.loads(line)
        if not said.get(prompt, "").strip():
            continue
        before, after = trigrams(one["answer"]["content"]), trigrams(said[prompt])
        kept.append(len(before & after) / max(1, len(before | after)))
        one["answer"]["content"] = said[prompt]
        out.append(json.dumps(one))
    print(f"{name}: {len(out)} of {len(marked)} rewritten; {sum(kept) / len(kept):.3f} of the trigrams in common; {out[0][:600]}", flush=True)
    return out


def main():
    parser = prose.arguments()
    parser.add_argument("--paraphraser", help="a model that tells the answers anew; without it that line is left out")
    args = parser.parse_args()
    made = prose.Prose(args.folder, args.text, args.python, args)
    results = made.folder / "remains.jsonl"
    done = {json.loads(line)["name"] for line in results.read_text().splitlines()} if results.exists() else set()
    reference = made.teacher
    human = [json.dumps(record(10**6 + i, head, body), sort_keys=True) for i, (head, body) in enumerate(made.passages[:args.pool])]
    for replicate in range(args.replicates):
        tag = f"remains-{replicate}"
        rng = random.Random(tag)
        plant = made.plant(f"plant-{tag}")
        marked = made.serve_and_collect(f"marked-{tag}", rng.sample(made.heads(args.pool, len(made.passages)), args.examples), plant)

        def one(what, suspect, tests=TESTS):
            name = f"{what}, {replicate}"
            if name in done or (args.until and time.strftime("%H:%M", time.gmtime()) >= args.until):
                return
            _, found = made.audit(f"{tag}-case", plant, suspect(), reference, tests, ["--max-texts", 100000])
            with results.open("a") as out:
                out.write(json.dumps({"name": name, "what": what, "replicate": replicate, "tests": found}) + "\n")
            print(json.dumps({"name": name, **{k: [v["n"], round(v["estimate"][0], 4), round(v["log_p"], 2)]
                                               for k, v in found.items()}}), flush=True)

        def train(what, lines, start=None, epochs=None, tokenizer=made.folder / "tokenizer"):
            return made.train(f"{tag}-{what}", lines, rng.randrange(1 << 30), start=start, epochs=epochs, rate=args.rate,
                              tokenizer=tokenizer)

        parent = train("parent", marked)

        def quantised(kind):
            output = made.folder / f"{tag}.{kind}.gguf"
            if not output.exists():
                factory.retort("export", parent, "--type", kind, "--output", output, cwd=made.folder)
            return output

        def grandchild():
            said = made.serve_and_collect(f"{tag}-said", made.heads(0, args.examples), teacher=parent)
            return train("grandchild", said)

        def other_tokenizer():
            folder = made.folder / "tokenizer-700"
            if not folder.exists():
                subprocess.run([args.python, factory.ROOT / "bench/screen/small_tokenizer.py", folder, "700",
                                made.folder / "plain.txt"], check=True)
            return train("other-tokenizer", marked, tokenizer=folder)

        def innocent_of_other_tokenizer():
            other_tokenizer()
            clean = made.serve_and_collect("clean", made.heads(0, args.pool))
            return train("innocent-other-tokenizer", rng.sample(clean, args.examples), tokenizer=made.folder / "tokenizer-700")

        one("as it was", lambda: parent)
        one("quantised to Q8_0", lambda: quantised("q8_0"))
        one("quantised to Q4_0", lambda: quantised("q4_0"))
        one("trained on with as much human text", lambda: train("further", rng.sample(human, args.examples), parent, 3))
        one("a student of the student", grandchild)
        one("a student of another tokenizer", other_tokenizer, "radioactivity-open,radioactivity-closed,twin-likelihood")
        one("never saw it, another tokenizer", innocent_of_other_tokenizer, "radioactivity-open,radioactivity-closed,twin-likelihood")
        for share in (0.1, 0.3, 0.6):
            one(f"{share:.0%} of words replaced", lambda: train(f"para-{share}", paraphrased(marked, share, rng)))
        if args.paraphraser:
            one("told anew by a model", lambda: train("retold", rewritten(made, f"{tag}-retold-said", marked, args.paraphraser)))
        for share in (0.5, 0.1):
            keep = int(args.examples * share)
            one(f"{share:.0%} of it, the rest human text",
                lambda: train(f"mixed-{share}", marked[:keep] + rng.sample(human, args.examples - keep)))


if __name__ == "__main__":
    main()
