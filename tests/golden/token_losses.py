"""Every divergence at equal inputs by independent implementations: TRL's GKD loss, PyTorch's kl_div, and autograd.

Run once (tests/golden/README.md); the output is committed as tests/data/train/token_losses.safetensors. Logits are f32;
losses and gradients are computed from them in f64 and cast at the end. For each case NAME of metadata "cases"
(objective, parameter, temperature, input i):

  input.i.student, input.i.teacher (rows, vocab), input.i.targets (rows)   normal logits; one input wide apart
  NAME.loss ()                     mean over rows of T²·D, D as docs/objectives.md defines it
  NAME.gradient (rows, vocab)      of that mean by the student's logits

jsd (and fkl and rkl as its ends) is TRL's GKDTrainer.generalized_jsd_loss, called as it is; fkl and rkl are also
torch.nn.functional.kl_div, and the two must agree. The skewed ones are kl_div to a mixture, tvd is an L1 norm.
TRL does not multiply by T²: this script does.
"""

import argparse
import json
import pathlib
import platform

import torch
import torch.nn.functional as F
import trl
from safetensors.torch import save_file
from trl.experimental.gkd import GKDTrainer

CASES = [
    (objective, parameter, temperature)
    for objective, parameters in {
        "fkl": [0.0],
        "rkl": [0.0],
        "jsd": [0.0, 0.1, 0.5, 0.9, 1.0],
        "skew-fkl": [0.1, 0.5],
        "skew-rkl": [0.1, 0.5],
        "tvd": [0.0],
    }.items()
    for parameter in parameters
    for temperature in [1.0, 2.0]
]


def trl_loss(student, teacher, beta, temperature):
    labels = torch.zeros(1, len(student), dtype=torch.long)
    loss = GKDTrainer.generalized_jsd_loss(
        student[None], teacher[None], labels=labels, beta=beta, temperature=temperature, reduction="batchmean"
    )
    return loss * temperature**2


def torch_loss(objective, parameter, student, teacher, temperature):
    log_q = F.log_softmax(student / temperature, -1)
    log_p = F.log_softmax(teacher / temperature, -1)

    def kl(log_a, log_b):
        return F.kl_div(log_b, log_a, reduction="batchmean", log_target=True)

    def mixture(of_p):
        return (of_p * log_p.exp() + (1 - of_p) * log_q.exp()).log()

    if objective == "fkl":
        loss = kl(log_p, log_q)
    elif objective == "rkl":
        loss = kl(log_q, log_p)
    elif objective == "skew-fkl":
        loss = kl(log_p, mixture(parameter))
    elif objective == "skew-rkl":
        loss = kl(log_q, mixture(1 - parameter))
    elif objective == "tvd":
        loss = 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1).mean()
    else:
        raise ValueError(objective)
    return loss * temperature**2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parents[1] / "data" / "train")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(7)
    golden, names = {}, {}
    inputs = []
    for i, (rows, vocab, deviation) in enumerate([(4, 37, 2.0), (2, 211, 6.0)]):
        student = deviation * torch.randn(rows, vocab, generator=generator)
        # A teacher that the student resembles, as it does after some training.
        teacher = student + 1.5 * torch.randn(rows, vocab, generator=generator)
        targets = torch.randint(0, vocab, (rows,), generator=generator)
        inputs.append((student, teacher))
        golden[f"input.{i}.student"] = student
        golden[f"input.{i}.teacher"] = teacher
        golden[f"input.{i}.targets"] = targets.int()
    for i, (student, teacher) in enumerate(inputs):
        for objective, parameter, temperature in CASES:
            q = student.double().requires_grad_()
            p = teacher.double()
            if objective == "jsd":
                loss = trl_loss(q, p, parameter, temperature)
            else:
                loss = torch_loss(objective, parameter, q, p, temperature)
                if objective in ("fkl", "rkl"):
                    other = trl_loss(q.detach(), p, 0.0 if objective == "fkl" else 1.0, temperature)
                    assert abs(other / loss - 1) < 1e-12, (other, loss)
            loss.backward()
            name = f"{objective}-{parameter:g}-{temperature:g}-{i}"
            names[name] = [objective, parameter, temperature, i]
            golden[f"{name}.loss"] = loss.detach().float()
            golden[f"{name}.gradient"] = q.grad.float()
    metadata = {
        "script": "tests/golden/token_losses.py",
        "seed": 7,
        "cases": names,
        "trl": trl.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "token_losses.safetensors"
    save_file(golden, path, metadata={"golden": json.dumps(metadata)})
    path.chmod(0o644)
    print(f"{path.stat().st_size} bytes, {len(names)} cases, TRL {trl.__version__}")


if __name__ == "__main__":
    main()
