"""Excerpts of works planted in clean text: how many `screen check` finds, by length and by share of words changed, with
intervals; and how much of what it tells is not planted.
    recall.py RETORT INDEX CLEAN.txt WORK.txt... [--count N] [--seed N]

A token here is a word as screening counts it. "default": a verbatim passage of 50 words or 150 characters, a near one of 40
words. "from 20": verbatim and near from 20 words on. An excerpt counts as found when what is told covers half of it; what is
told counts as wrong when less than half of it lies in an excerpt."""

import argparse
import json
import math
import pathlib
import random
import re
import subprocess
import tempfile
import unicodedata

LENGTHS = (20, 30, 40, 50, 60, 75, 100, 150, 200, 300, 500)
SHARES = (0.0, 0.01, 0.02, 0.05, 0.10)
GATES = {"default": ["--near"], "from 20": ["--min-tokens", "20", "--min-chars", "0", "--near", "--near-tokens", "20"]}


def wilson(k, n, z=1.959964):
    if n == 0:
        return 0.0, 1.0
    p = k / n
    middle, wide = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - wide) / (1 + z * z / n), (middle + wide) / (1 + z * z / n)


def excerpt(rng, words, length, share, vocabulary):
    at = rng.randrange(len(words) - length)
    out = list(words[at:at + length])
    for i in rng.sample(range(length), max(1, round(share * length)) if share else 0):
        out[i] = rng.choice(vocabulary)  # most often another word; left out and put in are two other thirds
        kind = rng.randrange(3)
        if kind == 1:
            out[i] = ""
        elif kind == 2:
            out[i] += " " + words[at + i]
    return " ".join(word for word in out if word)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("retort")
    parser.add_argument("index")
    parser.add_argument("clean")
    parser.add_argument("works", nargs="+")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    pattern = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")

    def words_of(name):
        # As screening has them: compatibility forms are one; neither apostrophes nor a hyphen at a line's end part a word.
        text = unicodedata.normalize("NFKC", pathlib.Path(name).read_text(encoding="utf-8", errors="replace"))
        return pattern.findall(re.sub(r"(?<=\w)-\r?\n[ \t]*|[\u00ad'`\u00b4\u2018\u2019\u02b9\u02bc\u2032\uff07]", "", text))

    works = [words_of(name) for name in options.works]
    weights = [len(work) for work in works]
    clean = words_of(options.clean)
    vocabulary = clean[:200000]
    with tempfile.TemporaryDirectory() as folder:
        path, planted = pathlib.Path(folder) / "texts.jsonl", []
        with path.open("w") as out:
            for length in LENGTHS:
                for share in SHARES:
                    for _ in range(options.count):
                        work = rng.choices(works, weights)[0]
                        begin = rng.randrange(len(clean) - 200)
                        before, after = " ".join(clean[begin:begin + 100]), " ".join(clean[begin + 100:begin + 200])
                        middle = excerpt(rng, work, length, share, vocabulary)
                        at = len((before + " ").encode())
                        planted.append((length, share, at, at + len(middle.encode())))
                        out.write(json.dumps({"text": f"{before} {middle} {after}"}, ensure_ascii=False) + "\n")
        print(f"{len(planted)} texts, seed {options.seed}, index {options.index}")
        for gate, arguments in GATES.items():
            done = subprocess.run([options.retort, "screen", "check", options.index, str(path), "--json", *arguments],
                                  capture_output=True, text=True)
            if done.returncode not in (0, 1):
                raise SystemExit(done.stderr)
            found, told, wrong = [False] * len(planted), {}, {}
            for line in done.stdout.splitlines():
                report = json.loads(line)
                number = int(report["text"].rsplit(":", 1)[1].split("/")[0]) - 1
                length, share, begin, end = planted[number]
                covered = 0
                for finding in report["findings"]:
                    inside = min(end, finding["end"]) - max(begin, finding["begin"])
                    covered += max(inside, 0)
                    told[length] = told.get(length, 0) + 1
                    if inside < (finding["end"] - finding["begin"]) / 2:
                        wrong[length] = wrong.get(length, 0) + 1
                found[number] = covered >= (end - begin) / 2
            print(f"\n{gate}\n| words | " + " | ".join(f"{share:.0%} changed" for share in SHARES) + " | precision |")
            print("|---" * (len(SHARES) + 2) + "|")
            for length in LENGTHS:
                cells = []
                for share in SHARES:
                    hits = [found[i] for i, p in enumerate(planted) if p[:2] == (length, share)]
                    low, high = wilson(sum(hits), len(hits))
                    cells.append(f"{sum(hits)}/{len(hits)} ({low:.3f}–{high:.3f})")
                n, k = told.get(length, 0), told.get(length, 0) - wrong.get(length, 0)
                low, high = wilson(k, n)
                cells.append(f"{k}/{n} ({low:.3f}–{high:.3f})")
                print(f"| {length} | " + " | ".join(cells) + " |")
            misses = [p for i, p in enumerate(planted) if p[0] >= 50 and p[1] == 0 and not found[i]]
            print(f"verbatim, 50 words and more: {len(misses)} of {sum(p[0] >= 50 and p[1] == 0 for p in planted)} missed")
            lines = path.read_text().splitlines()
            for number, p in enumerate(planted):
                if p[0] >= 50 and p[1] == 0 and not found[number]:
                    text = json.loads(lines[number])["text"].encode()
                    print("missed:", text[p[2]:p[3]].decode())


main()
