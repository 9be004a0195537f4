"""A student that knows a work by heart, behind `serve --protected`: the longest passage of the work in each of many sampled
answers, told by a search of its own (words of letters and digits, runs of 8 words looked up in a table).
    ten_thousand.py BASE_URL MODEL WORK.txt [--answers N] [--from WORD --words N]"""

import argparse
import collections
import concurrent.futures
import json
import random
import re
import time
import unicodedata
import urllib.request


def words(text, strict=False):
    """As screening counts them: a hyphen at a line's end joins. Strict: it parts two words, so that half of a word that a line's end
    parted is one too."""
    text = unicodedata.normalize("NFKD", text)
    text = re.sub(r"['’`]" if strict else r"(?<=\w)-\r?\n[ \t]*|['’`]", "", text)
    return re.findall(r"[^\W_]+", text.casefold())


def longest(said, work, table):
    """Words and characters (one between two words) of the longest passage by each."""
    most_words, most_characters = 0, 0
    for i in range(len(said) - 7):
        for j in table.get(tuple(said[i:i + 8]), ()):
            length = 8
            while i + length < len(said) and j + length < len(work) and said[i + length] == work[j + length]:
                length += 1
            most_words = max(most_words, length)
            most_characters = max(most_characters, sum(map(len, said[i:i + length])) + length - 1)
    return most_words, most_characters


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("work")
    parser.add_argument("--answers", type=int, default=10000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--words", type=int, default=1500)
    parser.add_argument("--begin", type=int, default=0, help="number of the first answer: a run in parts")
    parser.add_argument("--seconds", type=float, default=1e9, help="no answer is asked for after so long")
    parser.add_argument("--allowed-words", type=int, default=49)
    parser.add_argument("--allowed-characters", type=int, default=149)
    options = parser.parse_args()
    text = open(options.work, encoding="utf-8", errors="replace").read()
    pieces = [m.span() for m in re.finditer(r"\S+", text)]
    works = []  # by the one rule and the other
    for strict in (False, True):
        whole, table = words(text, strict), collections.defaultdict(list)
        for i in range(len(whole) - 7):
            table[tuple(whole[i:i + 8])].append(i)
        works.append((whole, table))
    began = time.monotonic()

    def ask(number):
        if time.monotonic() - began > options.seconds:
            return None
        at = options.first + random.Random(number).randrange(options.words - 120)
        prompt = text[pieces[at][0]:pieces[at + 35][1]]
        body = {"model": options.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 300,
                "temperature": (0.5, 0.8, 1.0, 1.2)[number % 4], "seed": number, "stream": number % 2 == 1}
        request = urllib.request.Request(options.url + "/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=3600) as answer:
            heard = answer.read().decode()
        if not body["stream"]:
            choice = json.loads(heard)["choices"][0]
            return choice["message"]["content"], choice["finish_reason"]
        said, reason = "", None
        for line in heard.splitlines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    said += choice["delta"].get("content") or ""
                    reason = choice.get("finish_reason") or reason
        return said, reason

    reasons, lengths = collections.Counter(), collections.Counter()
    characters, done, tokens, over = [0, 0], 0, 0, [0, 0]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        for heard in pool.map(ask, range(options.begin, options.begin + options.answers)):
            if heard is None:
                break
            (said, reason), done = heard, done + 1
            if done % 500 == 0:
                print(f"{done} answers, longest so far {max(lengths, default=0)} words", flush=True)
            reasons[reason] += 1
            tokens += len(words(said))
            for strict, (whole, table) in enumerate(works):
                most_words, most_characters = longest(words(said, bool(strict)), whole, table)
                if most_words > options.allowed_words or most_characters > options.allowed_characters:
                    over[strict] += 1
                    print(f"{'strictly, ' if strict else ''}answer {options.begin + done - 1}: {most_words} words, {most_characters} "
                          f"characters: {said!r}", flush=True)
                characters[strict] = max(characters[strict], most_characters)
                if not strict:
                    lengths[most_words] += 1
    print(f"answers {options.begin} to {options.begin + done - 1}, half of them streams, {tokens} words: {dict(reasons)}")
    print(f"longest passage of the work in any: {max(lengths)} words, {characters[0]} characters; more than {options.allowed_words} words or "
          f"{options.allowed_characters} characters in {over[0]} (at most {3 / done:.5f} of answers, 95 %)")
    print(f"with a hyphen at a line's end parting words: {characters[1]} characters at most, more than allowed in {over[1]}")
    print("answers by their longest passage:", ", ".join(f"{k}: {lengths[k]}" for k in sorted(lengths)))

main()
