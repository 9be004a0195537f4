"""The loss curve of a short AdamW run of the tiny smollm2 model (tests/golden/models.py), by torch in f64.

Run once (tests/golden/README.md); the output is committed as tests/data/train/adamw.safetensors. The run starts from
tests/data/model/smollm2/model.safetensors and has STEPS steps of ACCUMULATION micro-batches; step s (from 0) takes
micro-batches (ACCUMULATION·s + j) mod BATCHES, j = 0 … ACCUMULATION−1. A step's loss is the sum of −log q(target)
over the trained tokens of all its micro-batches, divided by their count (the micro-batches' counts differ, so
averaging their means is wrong, and seen). Options: see OPTIONS; weight decay on matrices (embedding included) only.

  batch.K.tokens, .targets (−1: not trained), .positions (T), .sequence_starts (sequences + 1)   int32
  learning_rate, loss, gradient_norm (STEPS)   f32: the rate used, loss before the update, norm before clipping
  loss.f32, gradient_norm.f32 (STEPS)          the same run in f32: how far rounding alone moves the curve
  final.norm.NAME, final.moved.NAME ()         norm of the parameter at the end, and of its change
  final.values.NAME (8)                        its elements i·⌊count/8⌋
  final.f32_difference.NAME ()                 norm of (f32 run − f64 run): what rounding alone does to it

The first DISTILL_STEPS losses of the same data with a live teacher (the tiny llama3 model) are in distill.safetensors:
NAME.loss and NAME.loss.f32 (DISTILL_STEPS) for ce, fkl (KL(p‖q)), fkl2 (T = 2, times T²), jsd (β = 0.5) and rkl.
"""

import argparse
import json
import math
import pathlib
import platform

import torch
import transformers
from models import VOCAB, build, double_precision
from safetensors.torch import load_file, save_file

STEPS = 16
ACCUMULATION = 2
BATCHES = 8
DISTILL_STEPS = 20
TEACHER = "llama3"
OPTIONS = dict(
    peak=3e-3,
    warmup_steps=4,
    final_share=0.1,  # of the peak, by a cosine, reached at step STEPS
    beta1=0.9,
    beta2=0.95,
    epsilon=1e-8,
    weight_decay=0.1,
    clip_norm=3.5,  # acts on some steps and not on others
)


def learning_rate(step, steps=STEPS):
    if step < OPTIONS["warmup_steps"]:
        return OPTIONS["peak"] * (step + 1) / OPTIONS["warmup_steps"]
    share = (step - OPTIONS["warmup_steps"]) / (steps - OPTIONS["warmup_steps"])
    final = OPTIONS["final_share"]
    return OPTIONS["peak"] * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share)))


def packed_batches():
    """Sequences that count up by a stride of their own, so that there is something to learn; trained after a prompt."""
    generator = torch.Generator().manual_seed(21)

    def uniform(low, high):
        return int(torch.randint(low, high, (1,), generator=generator))

    batches = []
    for _ in range(BATCHES):
        sequences = []
        for _ in range(uniform(1, 5)):
            length, start, stride = uniform(5, 24), uniform(0, VOCAB), uniform(1, 4)
            tokens = [3 + (start + i * stride) % (VOCAB - 3) for i in range(length)]
            prompt = uniform(1, 4)
            targets = [tokens[i + 1] if prompt <= i + 1 < length else -1 for i in range(length)]
            sequences.append((tokens, targets))
        batches.append(sequences)
    return batches


def cross_entropy(tokens, logits, targets):
    return torch.nn.functional.cross_entropy(logits, torch.tensor(targets), ignore_index=-1, reduction="sum")


def against(teacher, divergence, temperature=1.0):
    """Sum over trained tokens of T²·D(p_T, q_T)."""

    def part(tokens, logits, targets):
        kept = torch.tensor(targets) >= 0
        with torch.no_grad():
            other = teacher(input_ids=torch.tensor([tokens])).logits[0][kept]
        log_p = torch.log_softmax(other / temperature, -1)
        log_q = torch.log_softmax(logits[kept] / temperature, -1)
        return temperature**2 * divergence(log_p, log_q)

    return part


def kl(log_a, log_b):
    return torch.nn.functional.kl_div(log_b, log_a, reduction="sum", log_target=True)


def jsd(log_p, log_q):
    log_m = torch.logsumexp(torch.stack([log_p, log_q]), 0) - math.log(2)
    return 0.5 * kl(log_p, log_m) + 0.5 * kl(log_q, log_m)


def run(model, batches, steps=STEPS, part_loss=cross_entropy):
    named = dict(model.named_parameters())
    optimiser = torch.optim.AdamW(
        [
            dict(params=[p for p in named.values() if p.dim() > 1], weight_decay=OPTIONS["weight_decay"]),
            dict(params=[p for p in named.values() if p.dim() == 1], weight_decay=0.0),
        ],
        betas=(OPTIONS["beta1"], OPTIONS["beta2"]),
        eps=OPTIONS["epsilon"],
    )
    losses, norms = [], []
    for step in range(steps):
        micro = [batches[(ACCUMULATION * step + j) % BATCHES] for j in range(ACCUMULATION)]
        count = sum(target >= 0 for sequences in micro for _, targets in sequences for target in targets)
        optimiser.zero_grad(set_to_none=True)
        loss = 0.0
        for sequences in micro:
            for tokens, targets in sequences:
                logits = model(input_ids=torch.tensor([tokens])).logits[0]
                part = part_loss(tokens, logits, targets)
                (part / count).backward()
                loss += part.item() / count
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in named.values()))
        if norm > OPTIONS["clip_norm"]:
            for parameter in named.values():
                parameter.grad.mul_(OPTIONS["clip_norm"] / norm)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps)
        optimiser.step()
        losses.append(loss)
        norms.append(norm)
    return losses, norms, {key: value.detach().double() for key, value in named.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = pathlib.Path(__file__).parents[1] / "data"
    parser.add_argument("--model", type=pathlib.Path, default=data / "model" / "smollm2" / "model.safetensors")
    parser.add_argument("--out", type=pathlib.Path, default=data / "train")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batches = packed_batches()
    initial = {key: value.double() for key, value in load_file(arguments.model).items()}

    def model():
        result = build("smollm2")
        missing = set(dict(result.named_parameters())) ^ set(initial)
        assert not missing, missing
        result.load_state_dict(initial, strict=False)
        return result

    distilled = {}
    weights = load_file(arguments.model.parents[1] / TEACHER / "model.safetensors")
    for suffix, precision in (("", double_precision), (".f32", lambda one: one)):
        teacher = build(TEACHER)
        teacher.load_state_dict({key: value.double() for key, value in weights.items()}, strict=False)
        teacher = precision(teacher)
        for name, part in {
            "ce": cross_entropy,
            "fkl": against(teacher, kl),
            "fkl2": against(teacher, kl, 2.0),
            "rkl": against(teacher, lambda log_p, log_q: kl(log_q, log_p)),
            "jsd": against(teacher, jsd),
        }.items():
            curve, _, _ = run(precision(model()), batches, DISTILL_STEPS, part)
            distilled[f"{name}.loss{suffix}"] = torch.tensor(curve)
            print(name + suffix, f"{curve[0]:.5f} … {curve[-1]:.5f}")
    losses, norms, final = run(double_precision(model()), batches)
    losses32, norms32, final32 = run(model(), batches)

    golden = {
        "learning_rate": torch.tensor([learning_rate(step) for step in range(STEPS)]),
        "loss": torch.tensor(losses),
        "gradient_norm": torch.tensor(norms),
        "loss.f32": torch.tensor(losses32),
        "gradient_norm.f32": torch.tensor(norms32),
    }
    for k, sequences in enumerate(batches):
        lengths = [len(tokens) for tokens, _ in sequences]
        golden[f"batch.{k}.tokens"] = torch.tensor([t for tokens, _ in sequences for t in tokens]).int()
        golden[f"batch.{k}.targets"] = torch.tensor([t for _, targets in sequences for t in targets]).int()
        golden[f"batch.{k}.positions"] = torch.tensor([i for length in lengths for i in range(length)]).int()
        golden[f"batch.{k}.sequence_starts"] = torch.tensor([0, *lengths]).cumsum(0).int()
    for name, value in final.items():
        stride = value.numel() // 8
        golden[f"final.norm.{name}"] = value.norm().float()
        golden[f"final.moved.{name}"] = (value - initial[name]).norm().float()
        golden[f"final.values.{name}"] = value.flatten()[: 8 * stride : stride].float().contiguous()
        golden[f"final.f32_difference.{name}"] = (final32[name] - value).norm().float()
    metadata = {
        "script": "tests/golden/training.py",
        "seed": 21,
        "options": OPTIONS,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "adamw.safetensors"
    save_file(golden, path, metadata={"golden": json.dumps(metadata)})
    path.chmod(0o644)
    save_file(distilled, arguments.out / "distill.safetensors", metadata={"golden": json.dumps(metadata)})
    (arguments.out / "distill.safetensors").chmod(0o644)
    print(f"{path.stat().st_size} bytes")
    for step in range(STEPS):
        print(
            f"{step:2} rate {learning_rate(step):.2e} loss {losses[step]:.5f} norm {norms[step]:.4f}"
            f"  f32 − f64: {losses32[step] - losses[step]:+.1e} {norms32[step] - norms[step]:+.1e}"
        )
    print("largest f32 − f64 share of a parameter's change:",
          max((golden[f"final.f32_difference.{n}"] / golden[f"final.moved.{n}"]).item() for n in final))


if __name__ == "__main__":
    main()
