#!/usr/bin/env python3
"""Adapters of `retort distill --lora-rank` in peft itself: they load, and give the logits of the merged student.

Usage: peft_adapters.py RETORT. Needs torch, transformers, peft. Trains a tiny model (tests/e2e/harness.py) for some
steps, then compares, in f32, peft's model (start + adapters) with transformers' of output/model (merged by retort).
The adapters' gradients are checked in tests/train/lora_test.cpp; here is that the files mean what they should.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["RETORT_BIN"] = os.path.abspath(sys.argv[1])
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from harness import make_tiny_model  # noqa: E402

folder = pathlib.Path(tempfile.mkdtemp(prefix="peft-"))
make_tiny_model(folder / "tiny")
with open(folder / "records.jsonl", "w") as file:
    for i in range(24):
        file.write(json.dumps({"id": f"r{i}", "prompt": [{"role": "user", "content": f"Count to {i}"}],
                               "answer": {"content": " ".join(map(str, range(i + 4))), "finish_reason": "stop"}}) + "\n")
subprocess.run([os.environ["RETORT_BIN"], "distill", "--student", "tiny", "--objective", "ce", "--records", "records.jsonl",
                "--row-length", "128", "--epochs", "8", "--learning-rate", "1e-2", "--lora-rank", "4", "--lora-alpha", "8",
                "--dtype", "f32", "--quiet", "--output", "out"], cwd=folder, check=True)
start = transformers.AutoModelForCausalLM.from_pretrained(folder / "tiny", dtype=torch.float32)
merged = transformers.AutoModelForCausalLM.from_pretrained(folder / "out/model", dtype=torch.float32)
ids = torch.arange(3, 120).unsqueeze(0)
with torch.no_grad():
    before = start(ids).logits
    adapted = peft.PeftModel.from_pretrained(start, folder / "out/adapters")(ids).logits
    after = merged(ids).logits
gap = ((adapted - after).norm() / after.norm()).item()
moved = ((before - after).norm() / after.norm()).item()
print(f"peft {peft.__version__}, torch {torch.__version__}, transformers {transformers.__version__}: "
      f"relative gap of logits {gap:.2e}; the adapters moved them by {moved:.2e}")
sys.exit(0 if gap < 1e-5 < moved else 1)
