"""Hugging Face tokenizers on one thread: MB/s of a text file, one JSON line; optionally writes the ids.

TOKENIZER is a folder with tokenizer.json, or a GGUF file (then transformers makes the tokenizer from it).
"""

import argparse
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
    parser.add_argument("--lines", action="store_true", help="line by line, as documents, not as one text")
    parser.add_argument("--ids", type=pathlib.Path, help="write the ids, int32 little endian")
    a = parser.parse_args()
    import numpy
    import tokenizers

    tokenizer = load(a.tokenizer)
    text = a.text.read_bytes().decode(errors="replace")
    parts = text.splitlines(keepends=True) if a.lines else [text]
    # Without offsets, which ours does not make either.
    encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    times = []
    for _ in range(a.repeats):
        start = time.perf_counter()
        encoded = encode(parts, add_special_tokens=False)
        times.append(time.perf_counter() - start)
    ids = [token for part in encoded for token in part.ids]
    if a.ids:
        numpy.array(ids, dtype="<i4").tofile(a.ids)
    size = len(text.encode())
    print(
        json.dumps(
            {
                "rival": "tokenizers",
                "text": a.text.name,
                "bytes": size,
                "tokens": len(ids),
                "mb_s": round(size / min(times) / 1e6, 3),
                "threads": 1,
                "tokenizers": tokenizers.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
