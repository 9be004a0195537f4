"""An independent implementation of the watermarks and their detection, from the papers' formulas and the definitions
in docs/formats/watermark.md, written to tests/data/watermark/detection.json. Standard library and mpmath only.

  kdf: master key, scheme, channel, subkey
  hashes: subkey, window, token, SipHash-2-4
  texts: token ids of a few texts, with repetitions
  detection: scheme, subkey, the pairs that count, score, ln p
"""

import hashlib
import json
import math
import pathlib
import platform
import random
import struct

import mpmath

mpmath.mp.dps = 50
MASK = (1 << 64) - 1


def rotate(x, b):
    return (x << b | x >> (64 - b)) & MASK


def siphash24(key, message):
    """Aumasson & Bernstein 2012."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(count):
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    padded = message + b"\0" * (7 - len(message) % 8) + bytes([len(message) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def subkey(master, scheme, channel):
    """libsodium's crypto_kdf_derive_from_key: keyed BLAKE2b with the number as salt and the context as personal."""
    digest = hashlib.blake2b(f"{scheme}:{channel}".encode(), digest_size=32).digest()
    return hashlib.blake2b(key=master, digest_size=16, salt=digest[:8] + b"\0" * 8,
                           person=b"retortwm" + b"\0" * 8).digest()


def pair_hash(key, window, token):
    return siphash24(key, struct.pack(f"<{len(window) + 1}i", *window, token))


def unique_pairs(texts, window):
    seen = {}
    for text in texts:
        for i in range(window, len(text)):
            seen[tuple(text[i - window:i + 1])] = True
    return list(seen)


def log_binomial_tail(k, n, p):
    p = mpmath.mpf(p)
    return mpmath.log(mpmath.fsum(mpmath.binomial(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)))


def log_bits_tail(weights, repeats, s):
    """Π (1 + x^w)^repeats by whole numbers, one number holding all coefficients."""
    bits = len(weights) * repeats + 1
    polynomial = 1
    for weight in weights:
        for _ in range(repeats):
            polynomial += polynomial << weight * bits
    tail = 0
    mask = (1 << bits) - 1
    polynomial >>= s * bits
    data = polynomial
    # Summed by halves, so that the shifts stay cheap.
    def total(number, count):
        if count == 1:
            return number & mask
        half = count // 2
        low = number & ((1 << half * bits) - 1)
        return total(low, half) + total(number >> half * bits, count - half)
    count = max(1, -(-data.bit_length() // bits))
    tail = total(data, count)
    return mpmath.log(mpmath.mpf(tail)) - (bits - 1) * mpmath.log(2)


def detect(scheme, key, pairs):
    hashes = [pair_hash(key, pair[:-1], pair[-1]) for pair in pairs]
    if scheme["kind"] == "red-green":
        green = sum(h < int(scheme["gamma"] * 2**64) for h in hashes)
        return green, log_binomial_tail(green, len(pairs), scheme["gamma"])
    if scheme["kind"] == "gumbel":
        score = mpmath.fsum(-mpmath.log(1 - (mpmath.mpf(h >> 11) + 0.5) / 2**53) for h in hashes)
        return score, mpmath.log(mpmath.gammainc(len(pairs), score, mpmath.inf, regularized=True))
    m = scheme["layers"]
    weights = [10 * (m - 1) - 9 * layer for layer in range(m)]
    score = sum(weights[layer] for h in hashes for layer in range(m) if h >> layer & 1)
    return score, log_bits_tail(weights, len(pairs), score)


def marked(scheme, key, length, vocabulary, rng):
    """A text in which the mark is strong: of a few tokens drawn at random, the one that scores most."""
    text = [rng.randrange(vocabulary) for _ in range(scheme["window"])]
    while len(text) < length:
        options = [rng.randrange(vocabulary) for _ in range(2)]
        text.append(max(options, key=lambda t: detect(scheme, key, [(*text[-scheme["window"]:], t)])[0]))
    return text


def main():
    rng = random.Random(8)
    master = bytes(range(32))
    kinds = ["red-green", "gumbel", "tournament"]
    golden = {
        "versions": {"script": "tests/golden/watermark.py", "mpmath": mpmath.__version__,
                     "python": platform.python_version()},
        "kdf": [[master.hex(), kind, channel, subkey(master, kind, channel).hex()]
                for kind in kinds for channel in ["", "default", "rk-0123456789"]],
        "hashes": [],
        "detection": [],
    }
    for length in [1, 2, 4, 8]:
        window = [rng.randrange(50000) for _ in range(length)]
        key = rng.randbytes(16)
        golden["hashes"].append([key.hex(), window, 49151, str(pair_hash(key, window, 49151))])
    cases = [
        (dict(kind="red-green", window=1, gamma=0.25), 400, 60),
        (dict(kind="red-green", window=4, gamma=0.5), 600, 5000),
        (dict(kind="red-green", window=2, gamma=0.1), 3000, 300),
        (dict(kind="gumbel", window=2), 300, 300),
        (dict(kind="gumbel", window=4), 2000, 5000),
        (dict(kind="tournament", window=2, layers=5), 150, 300),
        (dict(kind="tournament", window=4, layers=30), 24, 5000),
    ]
    for scheme, length, vocabulary in cases:
        key = rng.randbytes(16)
        for has_mark in [False, True]:
            if has_mark:
                text = marked(scheme, key, length, vocabulary, rng)
            else:
                text = [rng.randrange(vocabulary) for _ in range(length)]
            texts = [text, text[: length // 3]]  # the second adds nothing but repetitions
            pairs = unique_pairs(texts, scheme["window"])
            score, log_p = detect(scheme, key, pairs)
            golden["detection"].append(dict(scheme=scheme, key=key.hex(), texts=texts, pairs=len(pairs),
                                            score=float(score), log_p=float(log_p)))
            print(scheme["kind"], scheme["window"], has_mark, len(pairs), float(score), float(log_p))
    path = pathlib.Path(__file__).parents[1] / "data" / "watermark" / "detection.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
