"""Writes src/text/unicode_tables.inc: the Unicode facts that decide token ids, as the reference sees them.

The `tokenizers` library mixes three Unicode versions (Oniguruma's for regular expressions, Rust's for digits,
an old one for normalisation and an older one for punctuation), and ids are only identical if each of them is
followed. So the tables are read out of the library itself, code point by code point.

    python tests/golden/text_unicode_tables.py > src/text/unicode_tables.inc
"""

import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CATEGORIES = [
    "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf",
    "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co",
]
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
PUNCTUATION, NUMERIC, WORD, NFC_ATTENTION, NFC_INERT = 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30


def matching(expression):
    """Code points that a regular expression of the reference matches."""
    remove = normalizers.Replace(Regex(expression), "")
    found = []
    for i in range(0, len(POINTS), 4096):
        block = POINTS[i : i + 4096]
        kept = set(remove.normalize_str("".join(map(chr, block))))
        found += [c for c in block if chr(c) not in kept]
    return found


def isolated(pre_tokenizer):
    return [c for c in POINTS if len(pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")) == 3]


def word_characters():
    """\\w of the regular expressions that guard added tokens with single_word: no match beside a word character."""
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    tokenizer.add_tokens([AddedToken("[x]", single_word=True, normalized=False)])
    token = tokenizer.token_to_id("[x]")
    return [c for c in POINTS if token not in tokenizer.encode("[x]" + chr(c), add_special_tokens=False).ids]


def main():
    table = {c: 0 for c in POINTS}
    for number, category in enumerate(CATEGORIES):
        for c in matching(r"\p{%s}" % category):
            table[c] = number << 21
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    for flag, points in (
        (PUNCTUATION, isolated(pre_tokenizers.Punctuation())),
        (NUMERIC, isolated(pre_tokenizers.Digits(individual_digits=True))),
        (WORD, word_characters()),
    ):
        for c in points:
            table[c] |= flag

    def reference_reorders(c):
        """Whether the reference gives c a combining class: it moves before or after marks of other classes."""
        return any(
            nfd.normalize_str("x" + a + chr(c) + b) != "x" + a + chr(c) + b
            for a, b in (("\u0345", ""), ("", "\u0334"), ("\u0315", "\u0334"))
        )

    firsts, seconds = set(), set()
    for c in POINTS:
        parts = nfd.normalize_str(chr(c))
        if len(parts) > 1 and nfc.normalize_str(parts) == chr(c):
            firsts.add(ord(nfc.normalize_str(parts[:-1])[0]))
            seconds.add(ord(parts[-1]))
    marks = set(matching(r"\p{M}"))
    for c in POINTS:
        if nfc.normalize_str(chr(c)) != chr(c) or c in seconds or reference_reorders(c):
            table[c] |= NFC_ATTENTION
        # A mark or a composition that newer Unicode has and the reference's normaliser does not know: it stays
        # where it is, and nothing moves across it. (The same of a mark of class 0 that composes with nothing.)
        newer = c in marks or unicodedata.normalize("NFD", chr(c)) != chr(c)
        known = reference_reorders(c) or nfd.normalize_str(chr(c)) != chr(c) or c in firsts or c in seconds
        if newer and not known:
            table[c] |= NFC_INERT | NFC_ATTENTION
    # Second halves of compositions newer than the reference's normaliser: U+11930 (Unicode 13), and those of 16.
    for c in (0x11930, 0x113B8, 0x113BB, 0x113C2, 0x113C9, 0x1611E, 0x1611F, 0x16120, 0x1612F, 0x16D67):
        table[c] |= NFC_INERT | NFC_ATTENTION

    print("// Written by tests/golden/text_unicode_tables.py with tokenizers %s and Python's Unicode %s; do not edit."
          % (tokenizers.__version__, unicodedata.unidata_version))
    print("// One word a run: first code point | category << 21 | flags << 26.")
    print("// Categories: " + " ".join(CATEGORIES[:15]))
    print("//             " + " ".join(CATEGORIES[15:]))
    print("// Flags: punctuation, numeric, word, needs attention under NFC, inert under NFC.")
    runs, last = [], None
    for c in POINTS:
        if table[c] != last:
            runs.append(c | table[c])
            last = table[c]
    line = ""
    for run in runs:
        item = "0x%x," % run
        if len(line) + len(item) > 108:
            print(line)
            line = ""
        line += item
    print(line)


main()
