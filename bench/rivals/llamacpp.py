"""llama.cpp's C API through the package llama-cpp-python: what the scripts here and tests/golden need of it.

The package is a source distribution; built with CMAKE_ARGS="-DGGML_NATIVE=ON" it is llama.cpp at its best on the machine.
"""

import ctypes
import os

import numpy

try:
    import llama_cpp
except ImportError as error:
    raise SystemExit(f'{error}: CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python') from error


@llama_cpp.llama_log_callback
def _errors_only(level, text, _):
    if level == 4:  # GGML_LOG_LEVEL_ERROR
        print(text.decode(errors="replace"), end="", flush=True)


llama_cpp.llama_log_set(_errors_only, ctypes.c_void_p(0))
llama_cpp.llama_backend_init()


def description():
    return {
        "llama.cpp": f"llama-cpp-python {llama_cpp.__version__}",
        "system": llama_cpp.llama_print_system_info().decode().strip(" |"),
    }


class Model:
    def __init__(self, path, context=2048, batch=512, sequences=1, threads=2, f32_cache=False):
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(os.fsencode(path), options)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = context
        options.n_batch = batch
        options.n_ubatch = min(batch, 512)
        options.n_seq_max = sequences
        options.n_threads = options.n_threads_batch = threads
        options.kv_unified = True
        if f32_cache:  # for comparing logits, not for speed
            options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise SystemExit(f"llama.cpp cannot make a context for {path}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        self.capacity = max(batch, sequences)
        self.batch = llama_cpp.llama_batch_init(self.capacity, 0, 1)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def decode(self, tokens, positions, sequences, outputs):
        """One call of llama_decode: tokens, their positions and sequences, and which of them give logits."""
        count = len(tokens)
        assert count <= self.capacity, (count, self.capacity)
        self.batch.n_tokens = count
        for i in range(count):
            self.batch.token[i] = int(tokens[i])
            self.batch.pos[i] = int(positions[i])
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = int(sequences[i])
            self.batch.logits[i] = int(outputs[i])
        status = llama_cpp.llama_decode(self.context, self.batch)
        if status != 0:
            raise SystemExit(f"llama_decode: status {status}")
        llama_cpp.llama_synchronize(self.context)

    def logits(self, index):
        pointer = llama_cpp.llama_get_logits_ith(self.context, index)
        return numpy.ctypeslib.as_array(pointer, shape=(self.vocab_size,))

    def all_logits(self, tokens):
        """(len(tokens), vocab) f32, from an empty cache."""
        self.clear()
        rows = []
        for start in range(0, len(tokens), self.capacity):
            part = tokens[start : start + self.capacity]
            self.decode(part, range(start, start + len(part)), [0] * len(part), [1] * len(part))
            rows += [self.logits(i).copy() for i in range(len(part))]
        return numpy.stack(rows)

    def greedy(self, tokens, count):
        """Greedy continuation, and at each step by how much the largest logit exceeds the second."""
        self.clear()
        for start in range(0, len(tokens), self.capacity):
            part = tokens[start : start + self.capacity]
            end = start + len(part)
            outputs = [int(i + 1 == len(tokens)) for i in range(start, end)]
            self.decode(part, range(start, end), [0] * len(part), outputs)
        answer, margins = [], []
        while True:
            logits = self.logits(-1)
            first = int(logits.argmax())
            margins.append(float(logits[first] - numpy.delete(logits, first).max()))
            answer.append(first)
            if len(answer) == count:
                return answer, margins
            self.decode([first], [len(tokens) + len(answer) - 1], [0], [1])

    def tokenize(self, text, special=True):
        data = text.encode()
        out = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), out, len(out), False, special)
        return list(out[:count])

    def text(self, tokens):
        data, piece = b"", ctypes.create_string_buffer(512)
        for token in tokens:
            count = llama_cpp.llama_token_to_piece(self.vocab, int(token), piece, 512, 0, True)
            data += piece.raw[: max(count, 0)]
        return data.decode(errors="replace")


def quantise(source, target, file_type, threads=2, **options):
    """llama.cpp's own quantiser; file_type as in LLAMA_FTYPE_…, for example MOSTLY_Q4_K_M."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = threads
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{file_type}")
    for key, value in options.items():
        setattr(parameters, key, value)
    status = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
    if status != 0:
        raise SystemExit(f"llama_model_quantize: status {status}")
