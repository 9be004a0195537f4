"""Rotary frequencies of every scaling, and the config.json texts they come from, by `transformers`.

    python tests/golden/rope.py tests/data/model/rope.json
"""

import importlib.metadata
import json
import pathlib
import sys

import transformers
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
CASES = [
    ("Llama", {"rope_theta": 10000.0}, {}),
    ("Llama", {"rope_theta": 100000.0, "rope_type": "linear", "factor": 4.0}, {}),
    ("Llama", {"rope_theta": 500000.0, **LLAMA3}, {"max_position_embeddings": 131072, "head_dim": 128}),
    ("Llama", {"rope_theta": 500000.0, **LLAMA3, "factor": 8.0}, {"max_position_embeddings": 131072}),
    ("Qwen2", {"rope_theta": 1000000.0, "rope_type": "yarn", "factor": 4.0,
               "original_max_position_embeddings": 32768}, {"max_position_embeddings": 131072}),
    ("Qwen3", {"rope_theta": 1000000.0, "rope_type": "yarn", "factor": 2.5, "beta_fast": 16.0, "beta_slow": 2.0,
               "truncate": False, "original_max_position_embeddings": 4096}, {"max_position_embeddings": 10240}),
    ("Qwen2", {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.1,
               "original_max_position_embeddings": 4096}, {"max_position_embeddings": 163840}),
    ("Qwen2", {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 8.0, "attention_factor": 1.25,
               "original_max_position_embeddings": 2048}, {"max_position_embeddings": 16384}),
]
ROTARY = {"Llama": LlamaRotaryEmbedding, "Qwen2": Qwen2RotaryEmbedding, "Qwen3": Qwen3RotaryEmbedding}


def main(path):
    cases = []
    for family, rope, other in CASES:
        config = getattr(transformers, family + "Config")(
            vocab_size=256, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, rope_parameters=dict(rope), architectures=[family + "ForCausalLM"], **other)
        rotary = ROTARY[family](config)
        cases.append({
            "config": json.loads(config.to_json_string(use_diff=True)),
            "inverse": [float(x) for x in rotary.inv_freq],
            "scale": float(rotary.attention_scaling),
        })
    versions = {p: importlib.metadata.version(p) for p in ["transformers", "torch"]}
    path.write_text(json.dumps({"versions": versions, "cases": cases}, indent=1) + "\n")


main(pathlib.Path(sys.argv[1]))
