"""Cost per token against model size, sequence length and batch, in training and in generation; JSON lines and a plot.

    scaling.py RETORT --models FOLDER --out scaling.jsonl --plot scaling.svg [--only size|length|batch]
    scaling.py --from scaling.jsonl --plot scaling.svg

Models of random bf16 weights are written into FOLDER (1.2 GB). Standard library only; runs in a few minutes, to be had on an
idle machine. --out is added to, and what is in it already is not measured again.
"""

import argparse
import json
import math
import pathlib
import random
import struct
import subprocess

VOCAB = 8192
CONTEXT = 8448
# name: hidden, layers, intermediate, heads
SHAPES = {
    "1M": (96, 4, 256, 3),
    "4M": (192, 6, 512, 3),
    "13M": (320, 8, 864, 5),
    "53M": (576, 12, 1536, 9),
    "120M": (768, 16, 2048, 12),
    "490M": (1280, 24, 3456, 20),
}
LENGTH_SHAPE = BATCH_SHAPE = "13M"


def bf16_block(draw, scale):
    """64 KiB of bf16 normal numbers."""
    values = (draw.gauss(0, scale) for _ in range(32768))
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def write_model(folder, shape):
    hidden, layers, intermediate, heads = shape
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llama",
                "architectures": ["LlamaForCausalLM"],
                "hidden_size": hidden,
                "num_hidden_layers": layers,
                "intermediate_size": intermediate,
                "num_attention_heads": heads,
                "num_key_value_heads": heads,
                "head_dim": hidden // heads,
                "vocab_size": VOCAB,
                "max_position_embeddings": CONTEXT,
                "rms_norm_eps": 1e-5,
                "rope_theta": 100000.0,
                "hidden_act": "silu",
                "tie_word_embeddings": True,
                "bos_token_id": 1,
                "eos_token_id": 2,
            }
        )
    )
    tensors = {"model.embed_tokens.weight": (VOCAB, hidden), "model.norm.weight": (hidden,)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{layer}{name}.weight"] = (hidden,)
        for name in "qkvo":
            tensors[f"{layer}self_attn.{name}_proj.weight"] = (hidden, hidden)
        for name in ("gate", "up"):
            tensors[f"{layer}mlp.{name}_proj.weight"] = (intermediate, hidden)
        tensors[f"{layer}mlp.down_proj.weight"] = (hidden, intermediate)
    header = {}
    at = 0
    for name, dims in tensors.items():
        size = 2 * math.prod(dims)
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = bf16_block(random.Random(1), 0.6 / math.sqrt(hidden))
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while at > 0:
            at -= file.write(block[: min(at, len(block))])
    return folder


def parameters(shape):
    hidden, layers, intermediate, _ = shape
    return VOCAB * hidden + hidden + layers * (4 * hidden**2 + 3 * hidden * intermediate + 2 * hidden)


def measure(retort, models, only, out):
    best_rate = 0.0
    before = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    measured = {(line["axis"], line["work"], line["x"]) for line in before}

    def bench(kind, model, extra):
        """Again where the machine itself, measured beside the work, was slower than it has been: then others were on it."""
        nonlocal best_rate
        command = [retort, "bench", kind, *model, "--json", *map(str, extra)]
        tries = []
        for _ in range(4):
            done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            limit = result.get("limit", {})
            rate = result.get("gemm_flops_per_second") or limit.get("gemm_bf16") or limit["gemm_f32"]
            best_rate = max(best_rate, rate)
            tries.append((rate, result))
            if rate > 0.85 * best_rate:
                break
        result = max(tries, key=lambda entry: entry[1]["tokens_per_second"])[1]
        share = next((result[k] for k in ("share", "share_of_memory_read", "share_of_gemm_bf16") if k in result), None)
        return 1e6 / result["tokens_per_second"], share

    def record(axis, work, x, kind, model, extra):
        if (axis, work, x) in measured:
            return
        cost, share = bench(kind, model, extra)
        line = {"axis": axis, "work": work, "x": x, "us_per_token": round(cost, 3), "share": share}
        print(json.dumps(line), flush=True)
        with open(out, "a") as file:
            file.write(json.dumps(line) + "\n")

    folder = {name: models / name for name in SHAPES}
    if only in (None, "size"):
        for name, shape in SHAPES.items():
            x = parameters(shape)
            path = folder[name]
            rows = 1 if x > 2e8 else 4
            record("size", "training", x, "train", ["--shape", path], ["--rows", rows, "--row-length", 256, "--steps", 1 if x > 2e8 else 2])
            record("size", "prompt", x, "prefill", [path], ["--tokens", 512, "--repeats", 2])
            record("size", "decoding, one sequence", x, "decode", [path], ["--tokens", 24, "--repeats", 2])
            record("size", "decoding, 32 sequences", x, "batch", [path], ["--tokens", 8, "--repeats", 2])
    if only in (None, "length"):
        path = folder[LENGTH_SHAPE]
        for length in (128, 256, 512, 1024, 2048, 4096, 8192):
            rows = max(1, 2048 // length)
            record("length", "training", length, "train", ["--shape", path], ["--rows", rows, "--row-length", length, "--steps", 1])
            record("length", "prompt", length, "prefill", [path], ["--tokens", length, "--repeats", 2])
            record("length", "decoding, one sequence", length, "decode", [path], ["--context", length, "--tokens", 24, "--repeats", 2])
    if only in (None, "batch"):
        path = folder[BATCH_SHAPE]
        for batch in (1, 2, 4, 8, 16, 32, 64):
            record("batch", "training", batch, "train", ["--shape", path], ["--rows", batch, "--row-length", 128, "--steps", 2])
            record("batch", "decoding", batch, "batch", [path], ["--sequences", batch, "--tokens", 16, "--repeats", 2])


COLOURS = {"training": "#b3541e", "prompt": "#1f6f8b", "decoding": "#4b7f52", "decoding, one sequence": "#4b7f52", "decoding, 32 sequences": "#7a5195"}
TITLES = {
    "size": ("parameters", "model size"),
    "length": ("tokens of the sequence", f"sequence length ({LENGTH_SHAPE} parameters)"),
    "batch": ("sequences together", f"batch ({BATCH_SHAPE} parameters)"),
}


def short(value):
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def plot(lines, to):
    """Three panels, both axes logarithmic, one scale of cost."""
    width, height, left, top, gap = 360, 300, 64, 46, 66
    costs = [line["us_per_token"] for line in lines]
    low = 10 ** math.floor(math.log10(min(costs)))
    high = 10 ** math.ceil(math.log10(max(costs)))
    svg = []
    total_width = left + 3 * width + 2 * gap + 20
    total_height = top + height + 96

    def text(x, y, words, size=12, anchor="middle", colour="#333", extra=""):
        svg.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" {extra}>{words}</text>')

    def y_of(cost):
        return top + height * (1 - math.log(cost / low) / math.log(high / low))

    for panel, (axis, (label, title)) in enumerate(TITLES.items()):
        own = [line for line in lines if line["axis"] == axis]
        x0 = left + panel * (width + gap)
        xs = sorted({line["x"] for line in own})
        if not xs:
            continue

        def x_of(x, x0=x0, xs=xs):
            return x0 + 12 + (width - 24) * math.log(x / xs[0]) / math.log(xs[-1] / xs[0])

        svg.append(f'<rect x="{x0}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>')
        text(x0 + width / 2, top - 14, title, 14)
        text(x0 + width / 2, top + height + 36, label)
        cost = low
        while cost <= high:
            svg.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y_of(cost):.1f}" y2="{y_of(cost):.1f}" stroke="#ddd"/>')
            text(x0 - 6, y_of(cost) + 4, short(cost), 11, "end")
            cost *= 10
        for x in xs:
            text(x_of(x), top + height + 16, short(float(f"{x:.2g}")) if axis == "size" else short(x), 11)
        for work in dict.fromkeys(line["work"] for line in own):
            points = sorted((line["x"], line["us_per_token"]) for line in own if line["work"] == work)
            path = " ".join(f"{x_of(x):.1f},{y_of(cost):.1f}" for x, cost in points)
            svg.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[work]}" stroke-width="2"/>')
            for x, cost in points:
                svg.append(f'<circle cx="{x_of(x):.1f}" cy="{y_of(cost):.1f}" r="3" fill="{COLOURS[work]}"><title>{work}, {x}: {cost:g} µs</title></circle>')
    text(16, top + height / 2, "µs a token", 12, extra=f'transform="rotate(-90 16 {top + height / 2})"')
    x = left
    for work in ("training", "prompt", "decoding, one sequence", "decoding, 32 sequences"):
        y = top + height + 68
        svg.append(f'<line x1="{x}" x2="{x + 24}" y1="{y - 4}" y2="{y - 4}" stroke="{COLOURS[work]}" stroke-width="3"/>')
        text(x + 30, y, work, 12, "start")
        x += 70 + 7 * len(work)
    to.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total_width} {total_height}" font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="white"/>' + "\n".join(svg) + "</svg>\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("retort", type=pathlib.Path, nargs="?")
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--only", choices=list(TITLES))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("scaling.jsonl"))
    parser.add_argument("--plot", type=pathlib.Path)
    parser.add_argument("--write-models", action="store_true", help="and do nothing else")
    parser.add_argument("--from", dest="source", type=pathlib.Path, help="measured before")
    a = parser.parse_args()
    if a.source is None:
        for name, shape in SHAPES.items():
            if not (a.models / name / "model.safetensors").exists():
                write_model(a.models / name, shape)
        if a.write_models:
            return
        measure(a.retort.resolve(), a.models, a.only, a.out)
    if a.plot:
        plot([json.loads(line) for line in (a.source or a.out).read_text().splitlines()], a.plot)


if __name__ == "__main__":
    main()
