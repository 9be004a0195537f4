"""Hugging Face tokenizers on one thread: MB/s of a text file as one text and line by line, a JSON line each, as
`retort bench tokenize --json` prints them; equal ids_sha256 means equal ids.

TOKENIZER is a folder with tokenizer.json, or a GGUF file (then transformers makes the tokenizer from it).
"""

import argparse
import hashlib
import json
import os
import pathlib
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"


def load(path):
    import tokenizers

    if path.suffix == ".gguf":
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(path.resolve().parent), gguf_file=path.name).backend_tokenizer
    return tokenizers.Tokenizer.from_file(str(path / "tokenizer.json" if path.is_dir() else path))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ids", type=pathlib.Path, help="write the ids of the whole text, int32 little endian")
    a = parser.parse_args()
    import numpy
    import tokenizers

    text = a.text.read_bytes().decode(errors="replace")
    size = len(text.encode())
    lines = text.split("\n")
    lines = [line + "\n" for line in lines[:-1]] + lines[-1:] * (lines[-1] != "")
    for parts in ([text], lines):
        tokenizer = load(a.tokenizer)  # anew: nothing in its cache of words
        # Without offsets, which ours does not make either.
        encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
        times = []
        for _ in range(a.repeats):
            start = time.perf_counter()
            encoded = encode(parts, add_special_tokens=False)
            times.append(time.perf_counter() - start)
        ids = numpy.array([token for part in encoded for token in part.ids], dtype="<i4")
        if a.ids and parts is not lines:
            ids.tofile(a.ids)
        result = {
            "rival": "tokenizers",
            "model": a.tokenizer.stem,
            "text": a.text.name,
            "texts": len(parts),
            "bytes": size,
            "tokens": len(ids),
            "mb_s": round(size / min(times) / 1e6, 3),
            "first_mb_s": round(size / times[0] / 1e6, 3),
            "threads": 1,
            "ids_sha256": hashlib.sha256(ids.tobytes()).hexdigest(),
            "tokenizers": tokenizers.__version__,
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
