"""Records that teach a student one work by heart: its words in windows, the first of a window asked and the rest answered.
    memorise.py WORK.txt OUT.jsonl [--from WORD] [--words N]"""

import argparse
import hashlib
import json
import re


def canonical(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def record(number, prompt, answer, model="the-work", terms=("public-domain", "0" * 64)):
    shape = {"messages": [{"content": prompt, "role": "user"}], "model": model, "parameters": {}, "sample": 0}
    return {"id": canonical(shape)[:32], "prompt_id": f"w{number}", "prompt": shape["messages"],
            "answer": {"content": answer, "finish_reason": "stop",
                       "sha256": canonical({"content": answer, "finish_reason": "stop", "reasoning": ""})},
            "teacher": {"endpoint": "file", "model": model}, "terms": {"id": terms[0], "sha256": terms[1]},
            "request": {"parameters": {}, "max_tokens": 0, "sample": 0, "sha256": canonical({**shape, "max_tokens": 0})},
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0},
            "times": {"started": "2026-11-29T00:00:00Z", "seconds": 0.0, "attempts": 1}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work")
    parser.add_argument("out")
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--words", type=int, default=3500)
    parser.add_argument("--prefix", type=int, default=36)
    parser.add_argument("--answer", type=int, default=90)
    parser.add_argument("--stride", type=int, default=12)
    options = parser.parse_args()
    text = open(options.work, encoding="utf-8", errors="replace").read()
    words = [m.span() for m in re.finditer(r"\S+", text)][options.first:options.first + options.words]
    with open(options.out, "w", encoding="utf-8") as out:
        # Every prompt once in the work: two that are the same would have the same id.
        seen, count = set(), 0
        for at in range(0, len(words) - options.prefix - 20, options.stride):
            prompt = text[words[at][0]:words[at + options.prefix - 1][1]]
            end = min(at + options.prefix + options.answer, len(words)) - 1
            answer = text[words[at + options.prefix][0]:words[end][1]]
            if prompt in seen:
                continue
            seen.add(prompt)
            out.write(json.dumps(record(count, prompt, answer), sort_keys=True, ensure_ascii=False) + "\n")
            count += 1
    print(count, "records")


if __name__ == "__main__":
    main()
