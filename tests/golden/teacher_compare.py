"""Compares every logit that our program computed for the golden prompts with transformers'.

    RETORT_TEACHER_GGUF=TEACHER.gguf RETORT_LOGITS_DUMP=FOLDER test_generate --gtest_filter='TeacherLogits.*transformer*'
    teacher_compare.py TEACHER.gguf FOLDER

FOLDER holds I.f32 for prompt I of tests/data/model/smollm2_teacher/golden.safetensors: (T, vocab) f32, little endian.
Exit status 1 when a bound is passed: by default the largest difference; with --kl, the mean KL a token (for weights
that are used quantised, where single logits may be further apart).
"""

import argparse
import pathlib

import numpy
import torch
from safetensors import safe_open
from teacher_logits import load


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("dump", type=pathlib.Path)
    parser.add_argument("--difference", type=float, default=1e-3)
    parser.add_argument("--kl", type=float, help="bound this instead of the difference, for example 1e-4")
    data = pathlib.Path(__file__).parents[1] / "data" / "model" / "smollm2_teacher" / "golden.safetensors"
    a = parser.parse_args()
    _, model = load(a.gguf)
    vocab = model.config.vocab_size
    golden = safe_open(data, "pt")
    worst, kl_sum, kl_worst, agreements, count = 0.0, 0.0, 0.0, 0, 0
    for i in range(20):
        path = a.dump / f"{i}.f32"
        if not path.exists():
            raise SystemExit(f"{path} is missing")
        ids = golden.get_tensor(f"prompt.{i}").long()
        ours = torch.from_numpy(numpy.fromfile(path, dtype="<f4")).reshape(len(ids), vocab)
        theirs = model(input_ids=ids[None]).logits[0]
        difference = (ours - theirs).abs().max().item()
        log_p, log_q = theirs.double().log_softmax(-1), ours.double().log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1)
        agree = (ours.argmax(-1) == theirs.argmax(-1)).sum().item()
        print(f"{i:2} {len(ids):3} tokens: largest difference {difference:.2e}, KL mean {kl.mean().item():.2e} "
              f"largest {kl.max().item():.2e}, same top token {agree}/{len(ids)}")  # fmt: skip
        worst = max(worst, difference)
        kl_sum += kl.sum().item()
        kl_worst = max(kl_worst, kl.max().item())
        agreements += agree
        count += len(ids)
    print(f"all {count} tokens: largest difference {worst:.2e}, KL mean {kl_sum / count:.2e} largest {kl_worst:.2e}, "
          f"same top token {agreements}/{count}")  # fmt: skip
    passed = kl_sum / count <= a.kl if a.kl is not None else worst <= a.difference
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
