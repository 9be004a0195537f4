"""A GGUF file as the `gguf` package writes it, from the Mistral-shaped model beside it.

    python tests/golden/gguf_file.py tests/data/model/mistral tests/data/formats/mistral.gguf

One metadata entry of each type. Matrices in F16, gate projections in Q8_0.
"""

import importlib.metadata
import json
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file


def interleave(weight, heads):
    """Query and key rows as GGUF's llama has them."""
    rows, cols = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def main(folder, path):
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    versions = {p: importlib.metadata.version(p) for p in ["gguf", "numpy"]}
    writer.add_string("test.versions", json.dumps(versions))
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_token_list([f"t{i}" for i in range(config["vocab_size"])])
    writer.add_token_types([1] * config["vocab_size"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_uint8("test.u8", 200)
    writer.add_int8("test.i8", -100)
    writer.add_uint16("test.u16", 60000)
    writer.add_int16("test.i16", -30000)
    writer.add_uint32("test.u32", 4000000000)
    writer.add_int32("test.i32", -2000000000)
    writer.add_uint64("test.u64", 2**63)
    writer.add_int64("test.i64", -(2**62))
    writer.add_float32("test.f32", 1.5)
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "Ġé")
    writer.add_array("test.floats", [0.5, -0.25])
    writer.add_array("test.bools", [True, False, True])
    writer.add_array("test.nested", [[1, 2], [3]])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, value in load_file(folder / "model.safetensors").items():
        value = value.astype(np.float32)
        if name.endswith("q_proj.weight"):
            value = interleave(value, config["num_attention_heads"])
        if name.endswith("k_proj.weight"):
            value = interleave(value, config["num_key_value_heads"])
        kind = gguf.GGMLQuantizationType.F32
        if value.ndim == 2:
            fills = "gate" in name and value.shape[1] % 32 == 0
            kind = gguf.GGMLQuantizationType.Q8_0 if fills else gguf.GGMLQuantizationType.F16
        data = gguf.quants.quantize(np.ascontiguousarray(value), kind)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
