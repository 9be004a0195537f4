"""Checks the files that `export` writes for Ollama and vLLM against what those two read, without running them.

    export_files.py --gguf EXPORTED.gguf --folder EXPORTED [--also FOLDER...]

Ollama: the Modelfile beside the GGUF file is read by the grammar of ollama/ollama parser/parser.go (commands, PARAMETER and
MESSAGE with a name, values plain, in "…" or in triple quotes), its FROM must be there, its parameters must be known, and its template
(Go's text/template; of it only `range .Messages`, `.Role`, `.Content`) must give what transformers' chat template gives.

vLLM: config.json must hold what vllm/model_executor/models/{llama,qwen2,qwen3}.py and vllm/config read, under those
names; tokenizer, template and weights must lie where its loader looks; the tensors' names and shapes must be those that it
loads. vLLM itself is not run: its wheel and what it wants are some 10 GB. Needs transformers and safetensors.
"""

import argparse
import json
import pathlib
import re

PARAMETERS = {"num_ctx", "repeat_last_n", "repeat_penalty", "temperature", "seed", "stop", "num_predict", "top_k", "top_p",
              "min_p", "presence_penalty", "frequency_penalty", "num_keep", "num_batch", "num_gpu", "num_thread"}
COMMANDS = {"from", "license", "template", "system", "adapter", "renderer", "parser", "parameter", "message", "requires"}
ARCHITECTURES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "mistral", "Qwen2ForCausalLM": "qwen2",
                 "Qwen3ForCausalLM": "qwen3"}


def read_modelfile(text):
    """(command, value) pairs; the value's quotes are off. An error for what Ollama refuses."""
    pairs, at = [], 0
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
            continue
        if text[at] == "#":
            at = text.find("\n", at) % (len(text) + 1)
            continue
        word = re.compile(r"[A-Za-z]+(?=[ \t])").match(text, at)
        if not word or word[0].lower() not in COMMANDS:
            raise ValueError(f"no command at {text[at:at + 30]!r}")
        name, at = word[0].lower(), word.end()
        if name in ("parameter", "message"):
            word = re.compile(r"[ \t]+(\w+)(?=[ \t])").match(text, at)
            if not word:
                raise ValueError(f"{name} without a name")
            name, at = f"{name} {word[1]}", word.end()
        while text[at] in " \t":
            at += 1
        for quote in ('"""', '"'):
            if text.startswith(quote, at):
                end = text.find(quote, at + len(quote))
                if end < 0:
                    raise ValueError(f"{name}: {quote} is not closed")
                value, at = text[at + len(quote):end], end + len(quote)
                break
        else:
            end = text.find("\n", at) % (len(text) + 1)
            value, at = text[at:end].strip(), end
        pairs.append((name, value))
    if not any(name == "from" for name, _ in pairs):
        raise ValueError("no FROM line")
    return pairs


def go_template(template, messages):
    """What Go's text/template makes of a template of one `range .Messages`."""
    template = re.sub(r"\s*\{\{- ", "{{ ", template)
    template = re.sub(r" -\}\}\s*", " }}", template)
    form = re.fullmatch(r"(?s)(.*?)\{\{ range \.Messages \}\}(.*?)\{\{ end \}\}(.*)", template)
    before, each, after = form.groups()
    text = "".join(each.replace("{{ .Role }}", m["role"]).replace("{{ .Content }}", m["content"]) for m in messages)
    text = before + text + after
    if "{{" in text:
        raise ValueError(f"an action that this reader does not know: {text}")
    return text


class Checks:
    def __init__(self):
        self.wrong = 0

    def __call__(self, passed, text):
        print(("ok    " if passed else "WRONG ") + text)
        self.wrong += not passed


def check_modelfile(check, gguf, tokenizer):
    path = pathlib.Path(f"{gguf}.Modelfile")
    pairs = read_modelfile(path.read_text())
    check(True, f"{path.name}: read by the grammar, {len(pairs)} commands: {', '.join(name for name, _ in pairs)}")
    model = [value for name, value in pairs if name == "from"]
    check(len(model) == 1 and (path.parent / model[0]).samefile(gguf), f"FROM {model[0]} is the file beside it")
    names = {name.split()[1] for name, _ in pairs if name.startswith("parameter ")}
    check(names <= PARAMETERS, f"parameters that Ollama knows: {', '.join(sorted(names)) or 'none'}")
    stops = [value for name, value in pairs if name == "parameter stop"]
    check(all(len(tokenizer.encode(stop, add_special_tokens=False)) == 1 for stop in stops),
          f"each stop is one token: {' '.join(stops)}")
    template = [value for name, value in pairs if name == "template"]
    if not template:
        print("note  no TEMPLATE: Ollama takes the GGUF file's own")
        return
    for messages in ([{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}],
                     [{"role": "system", "content": ""}, {"role": "user", "content": "A {{ b }} \"c\""},
                      {"role": "assistant", "content": "D."}, {"role": "user", "content": "E\nf"}]):
        ours = go_template(template[0], messages) if "{{" not in str(messages) else None
        theirs = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if ours is None:
            ours = go_template(template[0], [{**m, "content": m["content"].replace("{{ b }}", "(b)")} for m in messages])
            theirs = theirs.replace("{{ b }}", "(b)")
        check(ours == theirs, f"TEMPLATE and transformers' chat template agree on {len(messages)} messages")


def check_folder(check, folder):
    from safetensors import safe_open

    config = json.loads((folder / "config.json").read_text())
    architecture = config.get("architectures", [None])[0]
    check(architecture in ARCHITECTURES and config.get("model_type") == ARCHITECTURES[architecture],
          f"{folder.name}: architectures [{architecture}], model_type {config.get('model_type')}")
    kinds = {"hidden_size": int, "intermediate_size": int, "num_hidden_layers": int, "num_attention_heads": int,
             "num_key_value_heads": int, "vocab_size": int, "max_position_embeddings": int, "rms_norm_eps": float,
             "rope_theta": (int, float), "tie_word_embeddings": bool, "hidden_act": str}
    wrong = [key for key, kind in kinds.items() if not isinstance(config.get(key), kind)]
    check(not wrong, f"keys with their types: {', '.join(kinds)}" + (f"; not: {wrong}" if wrong else ""))
    check(config.get("hidden_act") == "silu", "hidden_act is silu, the only one it supports")
    dtype = config.get("torch_dtype", config.get("dtype"))
    check(dtype in ("float32", "float16", "bfloat16"), f"dtype {dtype}, which `--dtype auto` reads")
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    check(heads % kv == 0, f"{heads} heads in groups of {kv}")
    head = config.get("head_dim", config["hidden_size"] // heads)
    plain = head == config["hidden_size"] // heads and config["hidden_size"] % heads == 0
    check("head_dim" in config or plain, f"head_dim {head}" + ("" if plain else ": not hidden/heads; vLLM before 0.6 ignored it"))
    ends = json.loads((folder / "generation_config.json").read_text()).get("eos_token_id") if (
        folder / "generation_config.json").exists() else config.get("eos_token_id")
    check(ends is not None, f"eos_token_id {ends}, where generation stops")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        check((folder / name).exists(), f"{name} is there")
    has_template = (folder / "chat_template.jinja").exists() or "chat_template" in json.loads(
        (folder / "tokenizer_config.json").read_text())
    check(has_template, "a chat template, which /v1/chat/completions needs")
    shapes = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "np") as tensors:
            shapes.update({name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()})
    hidden, mlp = config["hidden_size"], config["intermediate_size"]
    expected = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        expected["lm_head.weight"] = (config["vocab_size"], hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        expected.update({layer + "input_layernorm.weight": (hidden,), layer + "post_attention_layernorm.weight": (hidden,),
                         layer + "self_attn.q_proj.weight": (heads * head, hidden),
                         layer + "self_attn.k_proj.weight": (kv * head, hidden),
                         layer + "self_attn.v_proj.weight": (kv * head, hidden),
                         layer + "self_attn.o_proj.weight": (hidden, heads * head),
                         layer + "mlp.gate_proj.weight": (mlp, hidden), layer + "mlp.up_proj.weight": (mlp, hidden),
                         layer + "mlp.down_proj.weight": (hidden, mlp)})
        if architecture == "Qwen2ForCausalLM":
            expected.update({layer + f"self_attn.{x}_proj.bias": ((heads if x == "q" else kv) * head,) for x in "qkv"})
        if architecture == "Qwen3ForCausalLM":
            expected.update({layer + f"self_attn.{x}_norm.weight": (head,) for x in "qk"})
    check(shapes == expected, f"{len(shapes)} tensors, names and shapes as it loads them" +
          ("" if shapes == expected else f"; differ: {sorted(set(shapes.items()) ^ set(expected.items()))[:4]}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--also", type=pathlib.Path, nargs="*", default=[], help="folders of other exports, for vLLM alone")
    a = parser.parse_args()
    import transformers

    check = Checks()
    check_modelfile(check, a.gguf, transformers.AutoTokenizer.from_pretrained(a.folder))
    for folder in [a.folder, *a.also]:
        check_folder(check, folder)
    print(f"{check.wrong} wrong" if check.wrong else "all as it should be")
    raise SystemExit(1 if check.wrong else 0)


if __name__ == "__main__":
    main()
