"""infini-gram beside `retort screen`: the package from PyPI indexes the works and finds every maximal span of 50 words or more of a
text with its `attribute` (as OLMoTrace does). Tokens are words, as screening has them but by Python's rules (its own tokenizers come
from a hub that this machine cannot reach), of 16 bits: with 32 its indexer asks for 34 GB at once, whatever the size. The 60,000 most
frequent words have a number each, the others share 5,000, which can only lengthen a span.
    pip install infini-gram numpy tqdm
    beside_infini_gram.py SCRATCH WORKS.txt TEXT.txt [--seconds N]"""

import argparse
import collections
import importlib.metadata
import pathlib
import re
import resource
import subprocess
import sys
import time
import unicodedata
import zlib

import numpy

WORD = re.compile(r"[^\W_]+")


def words_of(text):
    return WORD.findall(re.sub(r"['’`]", "", unicodedata.normalize("NFKC", text).casefold()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("scratch")
    parser.add_argument("works")
    parser.add_argument("text")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--min-len", type=int, default=50)
    options = parser.parse_args()
    folder = pathlib.Path(options.scratch).resolve()
    index = folder / "index"
    works = pathlib.Path(options.works).read_text(errors="replace")
    start = time.perf_counter()
    said = words_of(works)
    ids = {word: number for number, (word, _) in enumerate(collections.Counter(said).most_common(60000))}

    def number_of(word):
        return ids[word] if word in ids else 60000 + zlib.crc32(word.encode()) % 5000

    tokens = numpy.fromiter(map(number_of, said), dtype=numpy.uint16)
    tokenized = time.perf_counter() - start
    size = len(works.encode())
    if not (index / "table.0").exists():
        index.mkdir(parents=True, exist_ok=True)
        (folder / "data").mkdir(exist_ok=True)
        with (index / "tokenized.0").open("wb") as file:
            file.write(b"\xff\xff" + tokens.tobytes())
        (index / "offset.0").write_bytes(numpy.array([0], dtype=numpy.uint64).tobytes())
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "infini_gram.indexing", "--data_dir", str(folder / "data"), "--save_dir", str(index),
                        "--temp_dir", str(folder), "--token_dtype", "u16", "--cpus", "2", "--mem", "4", "--ulimit", "4096"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        built = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        on_disk = sum(p.stat().st_size for p in index.iterdir())
        print(f"infini-gram {importlib.metadata.version('infini-gram')}: {1e-6 * size:.1f} MB, {len(tokens)} words; suffix array in "
              f"{built:.1f} s ({1e-6 * size / built:.2f} MB/s, words cut in {tokenized:.1f} s of Python beside that), {1e-6 * on_disk:.1f} MB of "
              f"index ({on_disk / size:.2f} bytes a byte), {used.ru_maxrss // 1024} MB of memory, {used.ru_utime + used.ru_stime:.0f} s of processor time")
    from infini_gram.engine import InfiniGramEngine
    engine = InfiniGramEngine(index_dir=str(index), eos_token_id=65500, vocab_size=65535, token_dtype="u16")
    text = pathlib.Path(options.text).read_text(errors="replace")
    words, done, spans, at, block = words_of(text), 0.0, 0, 0, 2000
    while at < len(words) and done < options.seconds:
        query = [number_of(word) for word in words[at:at + block]]
        start = time.perf_counter()
        answer = engine.attribute(input_ids=query, delim_ids=[], min_len=options.min_len, max_cnt=1000000, enforce_bow=False)
        done += time.perf_counter() - start
        if "error" in answer:
            raise SystemExit(answer["error"])
        spans += len(answer["spans"])
        at += len(query)
    share = at / len(words)
    print(f"search: {share * 1e-6 * len(text.encode()):.2f} MB in {done:.1f} s, {share * 1e-6 * len(text.encode()) / done:.3f} MB/s; "
          f"{spans} spans of {options.min_len} words or more in {at} words")


main()
