"""Token ids of 10 MB of mixed text, by the `tokenizers` library, for tests/text/identity_test.cpp.

    python tests/golden/text_corpus.py OUT FOLDER... [--megabytes 10]

OUT receives corpus.bin (documents: little-endian u32 length, bytes) and, for each tokenizer whose parts lie below
one of the FOLDERs, NAME.json or NAME.gguf and NAME.ids (documents: u32 count, u32 ids; encoded with special
tokens added). Then:

    RETORT_TOKENIZER_CORPUS=OUT build/tests/test_text --gtest_filter='TokenizerIdentity.*'

The text is Python's standard library (code), the message catalogues and documentation of the installed Debian
packages (some hundred languages), and seeded random mixes: scripts, emoji, combining marks, white space, numbers,
broken UTF-8, special tokens and near misses of them.
"""

import argparse
import gettext
import glob
import gzip
import os
import random
import shutil
import struct
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers  # noqa: E402

from text_tokenizers import all_tokenizers  # noqa: E402

BLOCKS = [
    (0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F),
    (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE7F),
    (0xE80, 0xEFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FF),
    (0x1780, 0x17FF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20CF), (0x2100, 0x214F),
    (0x2150, 0x218F), (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2460, 0x24FF), (0x2500, 0x257F), (0x2600, 0x27BF),
    (0x3000, 0x303F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xA960, 0xA97F), (0xAC00, 0xD7A3), (0xF900, 0xFAFF),
    (0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x10330, 0x1034F), (0x11100, 0x1114F), (0x11900, 0x1195F),
    (0x1D15E, 0x1D164), (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF),
    (0x1F900, 0x1F9FF), (0x20000, 0x2A6DF), (0xE0020, 0xE007F),
]
SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<s>",
    "</s>", "<unk>", "[INST]", "[/INST]", "<|im_start", "im_end|>", "<|", "|>", "<repo_name>", "<file_sep>", "<0x41>",
    "<tool_call>", "</tool_call>", "<think>", "</think>",
]
WORDS = (
    "the of and I'm you're it's don't WE'LL They'VE he'D 'tis rock'n'roll x's ſ 'ſ d'accord l'été naïve façade Straße "
    "İstanbul ﬁnance Ａｂｃ １２３ ½ ² Ⅷ ㊀ 3.14159 1,000,000 2026-11-24 0x7f 1e-9 #include <vector> foo_bar(baz) => != ... "
    "https://example.org/a?b=c&d=e user@example.org C++ α+β≠γ ∑ √2 → ✓ 😀 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽 क्षत्रिय ไทย 한국어 조선말 日本語 中文。 العربية עברית"
).split(" ")
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u3000", "\u2003", "\u200b", "\u0085",
          "\u2028", "\u180e", "        ", "\t\t", "\x0b", "\x0c", "\x1c"]


def random_document(rng):
    out = []
    for _ in range(rng.randint(1, 120)):
        kind = rng.random()
        if kind < 0.35:
            out.append(rng.choice(WORDS).encode())
        elif kind < 0.6:
            low, high = rng.choice(BLOCKS)
            out.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 12))).encode())
        elif kind < 0.7:
            out.append(rng.choice(SPECIAL).encode())
        elif kind < 0.75:
            out.append("".join(chr(c) for c in (rng.randint(1, 0x10FFFF) for _ in range(4))
                               if not 0xD800 <= c < 0xE000).encode())
        elif kind < 0.8:
            out.append(bytes(rng.randint(0, 255) for _ in range(rng.randint(1, 6))))
        elif kind < 0.85:
            whole = rng.choice(WORDS).encode()
            out.append(whole[: rng.randint(0, len(whole))])
        elif kind < 0.9:
            out.append(str(rng.randint(0, 10 ** rng.randint(1, 18))).encode())
        elif kind < 0.93:
            out.append(rng.choice("aA0 .-=#\n_é中").encode() * rng.randint(1, 80))
        if rng.random() < 0.6:
            out.append(rng.choice(SPACES).encode())
    return b"".join(out)


def code_documents():
    for path in sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "**", "*.py"), recursive=True)):
        if "site-packages" not in path:
            with open(path, "rb") as file:
                yield file.read()


def catalogue_documents():
    """Each language in turn, so that a part of the list is a mix of all of them."""
    by_language = {}
    for path in sorted(glob.glob("/usr/share/locale/*/LC_MESSAGES/*.mo")):
        by_language.setdefault(path.split("/")[4], []).append(path)
    queues = list(by_language.values())
    while queues:
        for queue in queues:
            try:
                with open(queue.pop(0), "rb") as file:
                    catalogue = gettext.GNUTranslations(file)
                yield "\n".join(v for v in catalogue._catalog.values() if isinstance(v, str)).encode()
            except (OSError, UnicodeDecodeError, ValueError):
                pass
        queues = [queue for queue in queues if queue]


def other_documents():
    for path in sorted(glob.glob("/usr/share/doc/*/*.gz") + glob.glob("/usr/share/man/*/man*/*.gz")):
        try:
            with gzip.open(path, "rb") as file:
                yield file.read(200_000)
        except (OSError, EOFError):
            pass


def take(documents, size, longest=60_000):
    total = 0
    for document in documents:
        document = document[:longest]
        if total + len(document) > size:
            document = document[: size - total]
        if document:
            total += len(document)
            yield document
        if total >= size:
            return


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=20261124)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    size = int(arguments.megabytes * 1e6)
    documents = []
    documents += take(code_documents(), size * 25 // 100)
    documents += take(catalogue_documents(), size * 40 // 100)
    documents += take(other_documents(), size * 15 // 100)
    documents += take(iter(lambda: random_document(rng), None), size - sum(map(len, documents)))
    rng.shuffle(documents)
    os.makedirs(arguments.out, exist_ok=True)
    with open(os.path.join(arguments.out, "corpus.bin"), "wb") as file:
        for document in documents:
            file.write(struct.pack("<I", len(document)) + document)
    total = sum(map(len, documents))
    print("tokenizers %s, Python %s; %d documents, %d bytes, of which %d documents are no valid UTF-8" % (
        tokenizers.__version__, sys.version.split()[0], len(documents), total,
        sum(1 for d in documents if d.decode(errors="replace").encode() != d)))
    texts = [d.decode("utf-8", errors="replace") for d in documents]
    for name, (tokenizer, path) in all_tokenizers(arguments.folders).items():
        if path is not None:
            shutil.copy(path, os.path.join(arguments.out, name + ".gguf"))
        tokenizer.save(os.path.join(arguments.out, name + ".json"), pretty=False)
        best, ids = 0.0, []
        for _ in range(2):
            start = time.process_time()
            ids = [tokenizer.encode(text).ids for text in texts]
            best = max(best, total / (time.process_time() - start) / 1e6)
        with open(os.path.join(arguments.out, name + ".ids"), "wb") as file:
            for document in ids:
                file.write(struct.pack("<%dI" % (len(document) + 1), len(document), *document))
        print("%-9s %9d ids, %6.2f MB for each second of one core" % (name, sum(map(len, ids)), best), flush=True)


if __name__ == "__main__":
    main()
