#!/usr/bin/env python3
"""Makes tokenizer/ from worked problems: a byte-level BPE in tokenizer.json's form, digits one token each.

    retort problems --count 20000 --worked --output worked.jsonl
    python3 recipes/reasoning/make_tokenizer.py worked.jsonl recipes/reasoning/tokenizer

Standard library only; the same input gives the same files."""

import collections
import json
import pathlib
import re
import sys

VOCABULARY = 512
CONTROL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
THINK = ["<think>", "</think>"]  # ordinary text to a reader, one token to the model
TEMPLATE = """{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- if message.reasoning_content -%}{{- '<think>' + message.reasoning_content + '</think>' -}}{%- endif -%}
{{- message.content + '<|end|>' -}}
{%- else -%}
{{- '<|' + message.role + '|>' + message.content -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
# What Digits(individual_digits) and ByteLevel(use_regex) make of ASCII text.
PIECES = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[0-9]| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def byte_letters():
    """The printable letter that stands for each byte (GPT-2's table)."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in kept}
    for byte in range(256):
        letters.setdefault(byte, chr(0x100 + len(letters) - len(kept)))
    return letters


def train(texts, letters, tokens):
    counts = collections.Counter()
    for text in texts:
        for part in re.split(r"([0-9])", text):
            counts.update(PIECES.findall(part))
    words = [([letters[byte] for byte in piece.encode()], count) for piece, count in sorted(counts.items())]
    merges = []
    while tokens + len(merges) < VOCABULARY:
        pairs = collections.Counter()
        for word, count in words:
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, _ in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def main():
    source, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    texts = []
    for line in open(source, encoding="utf-8"):
        record = json.loads(line)
        texts += [record["prompt"][0]["content"], record["answer"]["reasoning"], record["answer"]["content"]]
    letters = byte_letters()
    specials = CONTROL + THINK
    merges = train(texts, letters, len(specials) + 256)
    vocabulary = {token: i for i, token in enumerate(specials + [letters[b] for b in sorted(letters)])}
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)

    reserved = [f"<|reserved_{i}|>" for i in range(VOCABULARY - len(vocabulary))]
    for token in reserved:
        vocabulary[token] = len(vocabulary)

    def added(token):
        return {"id": vocabulary[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": token not in THINK}

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(token) for token in specials + reserved],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence",
                          "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocabulary, "merges": [list(pair) for pair in merges]},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": CONTROL[0], "pad_token": CONTROL[0],
              "model_max_length": 512, "clean_up_tokenization_spaces": False}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    print(f"{len(vocabulary)} tokens, {len(merges)} merges")


main()
