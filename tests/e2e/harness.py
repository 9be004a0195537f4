"""What every end-to-end test shares: the real binary, a scratch folder, a model file to move about, and a web
server that misbehaves on request. Standard library only."""

import base64
import hashlib
import http.server
import io
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zipfile

RETORT = os.environ.get("RETORT_BIN", "")
SOURCE = pathlib.Path(__file__).resolve().parents[2]


def clean_environment(**extra):
    """No index, hub, token or proxy of the machine may leak into a test."""
    env = {k: v for k, v in os.environ.items() if not k.upper().endswith("_PROXY")}
    for name in ("PIP_INDEX_URL", "HF_ENDPOINT", "HF_TOKEN", "RETORT_ISA", "RETORT_LOG"):
        env.pop(name, None)
    env.update(extra)
    return env


class E2eTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="retort-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def retort(self, *arguments, status=0, env=None, stdin="", timeout=120):
        done = subprocess.run([RETORT, *map(str, arguments)], cwd=self.folder, env=env or clean_environment(),
                              input=stdin, capture_output=True, text=True, timeout=timeout)
        self.assertEqual(done.returncode, status,
                         f"retort {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *arguments, env=None, **options):
        process = subprocess.Popen([RETORT, *map(str, arguments)], cwd=self.folder, env=env or clean_environment(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

        def stop():
            if process.poll() is None:
                process.kill()
            process.communicate()

        self.addCleanup(stop)
        return process


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_gguf(elements=64, seed=0):
    """A well-formed GGUF file with one f32 tensor: enough for everything that does not run the model."""

    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    header += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    header += text("token_embd.weight") + struct.pack("<IQIQ", 1, elements, 0, 0)
    header += b"\0" * (-len(header) % 32)
    block = hashlib.sha512(str(seed).encode()).digest()
    data = (block * (elements * 4 // len(block) + 1))[: elements * 4]
    # Any bits are floats; what they are does not matter here.
    return header + data


TINY_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def byte_symbols():
    """GPT-2's printable character for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    table.update({byte: chr(256 + i) for i, byte in enumerate(other)})
    return [table[byte] for byte in range(256)]


def make_tiny_model(folder, seed=0, layers=2, context=256, end_scale=1.0):
    """A whole Hugging Face folder: a Llama of random weights whose tokens are bytes. It babbles, but by all the
    code that a real one runs. A larger end_scale makes it end its turn sooner."""
    hidden, mlp, heads, kv_heads = 32, 64, 4, 2
    symbols = byte_symbols()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {symbol: i for i, symbol in enumerate(symbols)}
    vocab.update({token: 256 + i for i, token in enumerate(special)})
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
              "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": kv_heads, "vocab_size": len(vocab), "max_position_embeddings": context,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu",
              "bos_token_id": 256, "eos_token_id": 258, "torch_dtype": "float32"}
    added = [{"id": 256 + i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, token in enumerate(special)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                 "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                           "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                           "merges": []}}
    tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>",
                        "eos_token": "<|im_end|>", "chat_template": TINY_TEMPLATE, "model_max_length": context,
                        "added_tokens_decoder": {str(a["id"]): {k: v for k, v in a.items() if k != "id"}
                                                 for a in added}}
    shapes = {"model.embed_tokens.weight": (len(vocab), hidden), "model.norm.weight": (hidden,)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        shapes.update({layer + "input_layernorm.weight": (hidden,),
                       layer + "post_attention_layernorm.weight": (hidden,),
                       layer + "self_attn.q_proj.weight": (hidden, hidden),
                       layer + "self_attn.k_proj.weight": (hidden // heads * kv_heads, hidden),
                       layer + "self_attn.v_proj.weight": (hidden // heads * kv_heads, hidden),
                       layer + "self_attn.o_proj.weight": (hidden, hidden),
                       layer + "mlp.gate_proj.weight": (mlp, hidden),
                       layer + "mlp.up_proj.weight": (mlp, hidden),
                       layer + "mlp.down_proj.weight": (hidden, mlp)})
    rng = random.Random(seed)
    header, data = {}, bytearray()
    for name, shape in sorted(shapes.items()):
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        values = [1.0] * count if len(shape) == 1 else [rng.gauss(0, 0.3) for _ in range(count)]
        if name == "model.embed_tokens.weight":
            # Bytes that print stand out, so that its likeliest text can be read.
            for byte in range(256):
                if not 32 <= byte < 127:
                    row = slice(byte * hidden, (byte + 1) * hidden)
                    values[row] = [value * 0.1 for value in values[row]]
            values[258 * hidden:259 * hidden] = [value * end_scale for value in values[258 * hidden:259 * hidden]]
        begin = len(data)
        data += struct.pack(f"<{count}f", *values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))


def make_wheel(name, version, files, damage=None):
    """files: archive name → bytes. damage: an archive name whose RECORD hash is made wrong."""
    info = f"{name}-{version}.dist-info"
    files = dict(files)
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: Apache-2.0\n\nbody\nLicense: no\n"
    ).encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/LICENSE"] = b"Apache License\n"
    record = ""
    for path, data in files.items():
        digest = hashlib.sha256(data + (b"x" if path == damage else b"")).digest()
        record += f"{path},sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{len(data)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return out.getvalue()


class Resource:
    def __init__(self, body, content_type="application/octet-stream", **options):
        self.body = body
        self.content_type = content_type
        self.etag = options.get("etag", '"' + sha256(body)[:16] + '"')
        self.ranges = options.get("ranges", True)
        self.cut_after = options.get("cut_after", [])  # drop the connection after that many bytes, once for each
        self.bytes_per_second = options.get("bytes_per_second", 0)
        self.redirect = options.get("redirect")
        self.status = options.get("status", [])  # statuses to give before the real answer
        self.headers = options.get("headers", {})


class WebServer:
    """path → Resource, and a list of what was asked."""

    def __init__(self):
        self.resources = {}
        self.requests = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a killed client resets its connections
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler):
        self.requests.append((handler.path, dict(handler.headers.items())))
        resource = self.resources.get(handler.path)
        if resource is None:
            return self.plain(handler, 404, b"no such thing")
        if resource.status:
            return self.plain(handler, resource.status.pop(0), b"try later")
        if resource.redirect:
            handler.send_response(302)
            handler.send_header("Location", resource.redirect)
            for name, value in resource.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return None
        body, start = resource.body, 0
        wanted = handler.headers.get("Range", "")
        if_range = handler.headers.get("If-Range")
        if resource.ranges and wanted.startswith("bytes=") and (if_range is None or if_range == resource.etag):
            start = int(wanted[6:].split("-")[0])
            if start >= len(body):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(body)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return None
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Type", resource.content_type)
        handler.send_header("Content-Length", str(len(body) - start))
        if resource.etag:
            handler.send_header("ETag", resource.etag)
        for name, value in resource.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        end = len(body)
        if resource.cut_after:
            end = min(end, start + resource.cut_after.pop(0))
        try:
            step = 65536
            for at in range(start, end, step):
                handler.wfile.write(body[at:min(at + step, end)])
                if resource.bytes_per_second:
                    handler.wfile.flush()
                    time.sleep(step / resource.bytes_per_second)
        except OSError:
            pass  # the client went away: the point of some tests
        if end < len(body):
            handler.close_connection = True
        return None

    @staticmethod
    def plain(handler, status, body):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def main():
    if not RETORT:
        sys.exit("RETORT_BIN must name the retort binary")
    unittest.main(verbosity=2)
