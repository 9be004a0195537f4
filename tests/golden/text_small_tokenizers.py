"""Small tokenizers of every supported shape with the ids that the `tokenizers` library gives, for
tests/text/tokenizer_test.cpp. They are trained on this folder's own text, so nothing of others is in them.

    python tests/golden/text_small_tokenizers.py > tests/data/text/tokenizers.json

Documents are bytes, written as strings of U+0000 to U+00FF.
"""

import json
import random
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from text_corpus import random_document
from text_tokenizers import LLAMA3, QWEN2, bos_template, sentencepiece_style

TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}"
    r"\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
EDGES = [
    b"", b" ", b"\n", b"a", b" a", b"a ", "é".encode(), b"\xff", b"\xe4\xbd", b"ok\xe4\xbd\xa0\xe4\xbd", b"\xed\xa0\x80",
    b"\xf0\x9f\x98", b"\xc0\x80", b"\xf4\x90\x80\x80", b"<s>", b"<s> hi", b"hi <s>", b" <s>  hi", b"x<s>y", b"<s><s>", b"<s",
    b"don't DON'T 'S 's' it's", "'ſ ſ 'S".encode(), b"1234567 12 3", b"a  b   c    d", b"a\n\n\nb\r\n c \t d", b"   ",
    "\u180e \u180e a\u180e".encode(), "a\u00a0 b\u3000\u2003 c".encode(), "e\u0301 \u1100\u1161 \ufb01 \u212b".encode(),
    "x\u0315\u08ff\u0345\u0334y".encode(), "\U00011935\U00011930".encode(), "½²Ⅷ㊀१२३٣".encode(), b"<tool>x</tool>",
    b"word[x] [x]word [x] _[x] (left) a (left) b(right)  c", b"A TOKEN token Token", b"  [pad]  ", b"<|user|>",
]


def text_to_train_on():
    with open(__file__, encoding="utf-8") as file:
        own = file.read()
    rng = random.Random(5)
    return [own] * 3 + [random_document(rng).decode(errors="replace") for _ in range(120)]


def trained(pre_tokenizer, normalizer=None, size=600, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(text_to_train_on(), trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def all_kinds():
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    mapped = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def split(expression, behavior="isolated", invert=False):
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), behavior, invert), mapped])

    special = [AddedToken(t, special=True, normalized=False) for t in ("<s>", "</s>", "<|user|>")]
    kinds = {
        "smollm2": trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain])),
        "gpt2_prefix_space": trained(pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)),
        "llama3": trained(split(LLAMA3), ignore_merges=True),
        "qwen2": trained(split(QWEN2), normalizers.NFC()),
        "tekken": trained(split(TEKKEN)),
        "llama3_generic": trained(split("(?:" + LLAMA3 + ")")),
        "digits_together": trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(False), plain])),
        "punctuation": trained(pre_tokenizers.Sequence([pre_tokenizers.Punctuation("merged_with_previous"), plain]),
                               normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), " ")])),
        "removed": trained(split(r"\s+", "removed")),
        "merged_next": trained(split(r"\s|\d", "merged_with_next")),
        "contiguous_inverted": trained(split(r"\w+", "contiguous", True)),
        "literal": trained(pre_tokenizers.Sequence([pre_tokenizers.Split("a", "merged_with_previous"), mapped])),
    }
    for name, tokenizer in kinds.items():
        tokenizer.add_special_tokens(special)
        if name == "smollm2":
            tokenizer.add_tokens([
                AddedToken("[x]", single_word=True, normalized=False), AddedToken("(left)", lstrip=True, normalized=False),
                AddedToken("(right)", rstrip=True, normalized=False), AddedToken("TOKEN", normalized=True),
                AddedToken("[pad]", special=True, lstrip=True, rstrip=True, normalized=False)])
        if name == "qwen2":
            tokenizer.add_tokens([AddedToken("é", normalized=True), AddedToken("<tool>", normalized=False)])
        if name in ("llama3", "tekken"):
            tokenizer.post_processor = processors.Sequence(
                [processors.ByteLevel(trim_offsets=False), bos_template("<s>", tokenizer.token_to_id("<s>"))])
    # SentencePiece's shape: pieces with scores, characters of the training text, and the bytes.
    base = Tokenizer(models.BPE(unk_token="<unk>"))
    base.pre_tokenizer = pre_tokenizers.Metaspace()
    base.train_from_iterator(text_to_train_on(), trainers.BpeTrainer(vocab_size=900, limit_alphabet=120,
                                                                     show_progress=False))
    order = sorted(base.get_vocab().items(), key=lambda item: item[1])
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)] + [("<0x%02X>" % b, 0.0) for b in range(256)]
    taken = {p for p, _ in pieces}
    pieces += [(p, -float(i)) for i, (p, _) in enumerate(order) if p not in taken]
    kinds["llama2"] = sentencepiece_style(pieces, ["<unk>", "<s>", "</s>"])
    kinds["mistral3"] = sentencepiece_style(pieces, ["<unk>", "<s>", "</s>"], legacy=False)
    metaspace = sentencepiece_style([p for p in pieces if not p[0].startswith("<0x")], ["<unk>", "<s>", "</s>"], legacy=False)
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    metaspace.decoder = decoders.Metaspace(prepend_scheme="always")
    kinds["metaspace_unknown"] = metaspace
    return kinds


def main():
    rng = random.Random(99)
    documents = EDGES + [random_document(rng) for _ in range(16)]
    texts = [d.decode("utf-8", errors="replace") for d in documents]
    out = {"made_with": "tokenizers %s, Python %s" % (tokenizers.__version__, sys.version.split()[0]),
           "documents": [d.decode("latin-1") for d in documents], "tokenizers": {}}
    for name, tokenizer in all_kinds().items():
        ids = [tokenizer.encode(t).ids for t in texts]
        bare = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        tokenizer.encode_special_tokens = True
        plain = [tokenizer.encode(t).ids for t in texts[:len(EDGES)]]
        tokenizer.encode_special_tokens = False
        prefix = [i for i in tokenizer.encode("").ids]
        assert all(a == prefix + b for a, b in zip(ids, bare))
        out["tokenizers"][name] = {
            "tokenizer": json.loads(tokenizer.to_str()), "ids": ids, "bare_prefix": len(prefix), "without_special": plain,
            "decoded": [tokenizer.decode(i, skip_special_tokens=False) for i in ids],
            "decoded_skipping": [tokenizer.decode(i, skip_special_tokens=True) for i in ids[:len(EDGES)]],
        }
    json.dump(out, sys.stdout, ensure_ascii=True, separators=(",", ":"))


main()
