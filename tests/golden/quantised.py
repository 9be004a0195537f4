"""Blocks of every GGUF format and what they unpack to, and values and what they pack to, by the `gguf` package.

    python tests/golden/quantised.py tests/data/tensor/quantised

TYPE.blocks are random blocks, TYPE.f32 what they unpack to. values.f32 are values of many magnitudes, values.TYPE
what they pack to. Scales are finite halves, subnormal ones among them; codes are any bytes.
"""

import importlib.metadata
import json
import pathlib
import sys

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

# Where a block keeps its half-precision numbers.
HALVES = {
    "q8_0": [0], "q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q2_k": [80, 82], "q3_k": [108],
    "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208],
}
NAMES = {name: T[name.upper()] for name in HALVES}


def random_halves(rng, count):
    magnitude = rng.standard_normal(count) * 10.0 ** rng.integers(-7, 2, count)
    return magnitude.astype(np.float16)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20240607)
    for name, kind in NAMES.items():
        elements, size = GGML_QUANT_SIZES[kind]
        count = 1024 // elements
        blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
        for offset in HALVES[name]:
            blocks[:, offset : offset + 2] = random_halves(rng, count).view(np.uint8).reshape(count, 2)
        values = dequantize(blocks, kind).astype(np.float32)
        assert np.isfinite(values).all()
        blocks.tofile(folder / f"{name}.blocks")
        values.tofile(folder / f"{name}.f32")

    rows = [rng.standard_normal(32) * 10.0**power for power in range(-6, 4)]
    rows += [np.zeros(32), np.full(32, 0.5), np.full(32, -3.0), np.arange(32) - 15.5, np.arange(32) / 4.0]
    rows += [np.where(np.arange(32) == 7, 127.0, np.arange(32) - 16 + 0.5)]  # ties at half a code
    rows += [rng.standard_normal(32) * np.exp(rng.standard_normal(32)) for _ in range(16)]
    values = np.stack(rows).astype(np.float32)
    values.tofile(folder / "values.f32")
    for name in ["q8_0", "q4_0", "q4_1", "bf16"]:
        quantize(values, T[name.upper()]).tofile(folder / f"values.{name}")
    values.astype(np.float16).tofile(folder / "values.f16")

    versions = {p: importlib.metadata.version(p) for p in ["gguf", "numpy"]}
    (folder / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


main(pathlib.Path(sys.argv[1]))
