"""Tiny random-weight models of every shape the engine runs, with logits, losses and gradients from transformers.

Run once (tests/golden/README.md); the output is committed under tests/data/model/NAME/:
  config.json                as this transformers version writes it
  config.transformers4.json  the same model as older versions wrote it (rope_theta and rope_scaling)
  model.safetensors          weights, f32
  golden.safetensors         see GOLDEN below; every number is f32, every id int32

Norm weights, biases and query/key norms are random, so that leaving one out or swapping two is seen.

GOLDEN, for i = 0, 1 (the two sequences; packed means: end to end, positions restarting, no attention across):
  input_ids.i (T)  targets.i (T)  the next token where it is trained, else -1
  logits.i (T, vocab)             by transformers in f32, unchanged: the reference implementation's own numbers
and, when the shape is trained, with P = the positions of both sequences whose target is not -1, from an f64 model
(norms in f64 too, where transformers would compute them in f32) cast to f32 at the end:
  ce.loss ()                      mean over P of −log q(target);           ce.gradient.PARAMETER
  fkl1.loss, fkl2.loss ()         mean over P of T²·KL(p_T ‖ q_T), T=1, 2;  fkl1.gradient.PARAMETER, ...
where p is the distribution of the teacher, another of these models. Metadata "golden" is a JSON object: teacher, seed,
versions, and how far the f32 and f64 logits are apart.
A tied head has no gradient of its own: model.embed_tokens.weight has the sum.
"""

import argparse
import json
import pathlib
import platform

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB = 107  # not a multiple of any vector width
COMMON = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)

# model_type, seed, teacher (None: logits only), what differs from COMMON
SHAPES = {
    "llama3": (
        "llama",
        11,
        "qwen3",
        dict(
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            rope_parameters=dict(
                rope_type="llama3",
                rope_theta=500.0,
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=64,
            ),
        ),
    ),
    "smollm2": (
        "llama",
        12,
        "llama3",
        dict(
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            rope_parameters=dict(rope_type="default", rope_theta=1000.0),
        ),
    ),
    "mistral": (
        "mistral",
        13,
        "smollm2",
        dict(
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=24,  # as in Mistral NeMo: query size 48, not hidden size
            sliding_window=None,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
    ),
    "qwen2.5": (
        "qwen2",
        14,
        "mistral",
        dict(
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
            use_sliding_window=False,
            rope_parameters=dict(rope_type="default", rope_theta=1000000.0),
        ),
    ),
    "qwen3": (
        "qwen3",
        15,
        "qwen2.5",
        dict(
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
            head_dim=16,  # query size 64, not hidden size
            use_sliding_window=False,
            attention_bias=False,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
    ),
    "llama_linear": (
        "llama",
        16,
        None,
        dict(
            num_hidden_layers=1,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            rope_parameters=dict(rope_type="linear", rope_theta=1000.0, factor=4.0),
        ),
    ),
    "llama_yarn": (
        "llama",
        17,
        None,
        dict(
            num_hidden_layers=1,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            head_dim=16,
            max_position_embeddings=1024,
            rope_parameters=dict(
                rope_type="yarn",
                rope_theta=10000.0,
                factor=4.0,
                original_max_position_embeddings=256,
            ),
        ),
    ),
    "qwen3_yarn": (
        "qwen3",
        18,
        None,
        dict(
            num_hidden_layers=1,
            rms_norm_eps=1e-6,
            tie_word_embeddings=True,
            head_dim=16,
            max_position_embeddings=512,
            rope_parameters=dict(
                rope_type="yarn",
                rope_theta=1000.0,
                factor=2.0,
                original_max_position_embeddings=256,
                attention_factor=0.9,
                beta_fast=16.0,
                beta_slow=2.0,
            ),
        ),
    ),
}


def build(name):
    model_type, seed, _, options = SHAPES[name]
    config = AutoConfig.for_model(model_type, **{**COMMON, **options})
    config.dtype = "float32"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in sorted(model.named_parameters()):
            random = torch.randn(parameter.shape, generator=generator)
            if "norm" in key:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
            elif key.endswith(".bias"):
                parameter.copy_(0.5 * random)
            elif "embed_tokens" in key or "lm_head" in key:
                parameter.copy_(0.35 * random)
            else:  # attention and activations well away from uniform and from linear
                parameter.copy_(1.3 * parameter.shape[1] ** -0.5 * random)
    return model.eval()


def double_precision(model):
    """The same model in f64; transformers' norms would cast to f32 inside."""
    model = model.double()
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):

            def forward(x, module=module):
                return module.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + module.variance_epsilon))

            module.forward = forward
    return model


def sequences():
    """Two sequences with their targets: the first trained in one stretch, the second in two."""
    generator = torch.Generator().manual_seed(1)
    result = []
    for length, trained in ((37, [(9, 37)]), (20, [(4, 7), (12, 19)])):
        ids = torch.randint(3, VOCAB, (length,), generator=generator)
        targets = torch.full((length,), -1)
        for begin, end in trained:  # tokens begin..end-1 are learnt: targets of the positions before them
            targets[begin - 1 : end - 1] = ids[begin:end]
        result.append((ids, targets))
    return result


def trained_logits(model, data):
    rows = [model(input_ids=ids[None]).logits[0][targets >= 0] for ids, targets in data]
    return torch.cat(rows), torch.cat([targets[targets >= 0] for _, targets in data])


def gradients(model, loss, prefix, golden):
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    golden[f"{prefix}.loss"] = loss.detach().float().reshape(())
    for key, parameter in model.named_parameters():
        golden[f"{prefix}.gradient.{key}"] = parameter.grad.float().contiguous()


def older_config(text):
    config = json.loads(text)
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.51.0"
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parents[1] / "data" / "model")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = sequences()
    for name, (_, seed, teacher, _) in SHAPES.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        model = build(name)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "config.transformers4.json").write_text(older_config((folder / "config.json").read_text()))

        golden = {}
        with torch.no_grad():
            for i, (ids, targets) in enumerate(data):
                golden[f"input_ids.{i}"] = ids.int()
                golden[f"targets.{i}"] = targets.int()
                golden[f"logits.{i}"] = model(input_ids=ids[None]).logits[0].contiguous()
        model = double_precision(model)
        with torch.no_grad():
            difference = max(
                (model(input_ids=ids[None]).logits[0] - golden[f"logits.{i}"]).abs().max().item()
                for i, (ids, _) in enumerate(data)
            )
        if teacher:
            student, targets = trained_logits(model, data)
            gradients(model, torch.nn.functional.cross_entropy(student, targets), "ce", golden)
            with torch.no_grad():
                p_logits, _ = trained_logits(double_precision(build(teacher)), data)
            for temperature in (1, 2):
                log_p = torch.log_softmax(p_logits / temperature, -1)
                log_q = torch.log_softmax(student / temperature, -1)
                loss = temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()
                gradients(model, loss, f"fkl{temperature}", golden)
        metadata = {
            "script": "tests/golden/models.py",
            "seed": str(seed),
            "teacher": teacher or "",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "f32_f64_logit_difference": f"{difference:.3g}",
        }
        # One entry, as the order of several is not reproducible.
        save_file(golden, folder / "golden.safetensors", metadata={"golden": json.dumps(metadata)})
        losses = {key: round(value.item(), 5) for key, value in golden.items() if key.endswith(".loss")}
        spread = golden["logits.0"].std().item()
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{name}: {size} bytes, logit std {spread:.2f}, f32-f64 {difference:.2g}, {losses}")


if __name__ == "__main__":
    main()
