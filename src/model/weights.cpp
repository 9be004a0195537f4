#include "model/weights.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <span>

#include "base/file.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "model/config_gguf.h"
#include "model/tensor_names.h"
#include "tensor/quantised.h"

namespace retort::model {

namespace {

namespace fs = std::filesystem;
using tensor::DType;
using tensor::MatrixView;

struct StoredTensor {
    DType dtype = DType::f32;
    std::vector<std::int64_t> shape;
    std::span<const std::byte> data;
    bool used = false;
};

// The tensors of a model as its files have them.
struct Source {
    std::string name;
    TensorNaming naming = TensorNaming::hugging_face;
    bool interleaved_rotary = false;
    bool mapped = false;  // tensors' data are in a mapped file
    std::map<std::string, StoredTensor, std::less<>> tensors;
};

std::string shape_text(std::span<const std::int64_t> shape) {
    return fmt::format("({})", fmt::join(shape, ", "));
}

std::size_t natural_alignment(DType dtype) {
    return dtype == DType::f32 ? alignof(float) : alignof(std::uint16_t);
}

class Loader {
  public:
    Loader(Source& source, Weights& weights) : source_(source), weights_(weights) {}

    Status load() {
        const ModelConfig& config = weights_.config;
        RETORT_TRY(weights_.embedding,
                   matrix(name(ModelTensor::embedding), tensor_shape(config, ModelTensor::embedding)));
        RETORT_TRY(weights_.final_norm,
                   vector(name(ModelTensor::final_norm), tensor_shape(config, ModelTensor::final_norm)));
        if (config.tie_embeddings) {
            weights_.head = weights_.embedding;
            mark_used(name(ModelTensor::head));  // some writers store the tied head too
        } else {
            RETORT_TRY(weights_.head,
                       matrix(name(ModelTensor::head), tensor_shape(config, ModelTensor::head)));
        }
        // Each layer has tensors of its own, so their number bounds what is allocated here.
        if (config.layer_count > static_cast<std::int64_t>(source_.tensors.size())) {
            return fail(ErrorCode::format, "{}: {} layers by its config, but only {} tensors", source_.name,
                        config.layer_count, source_.tensors.size());
        }
        for (std::int64_t i = 0; i < config.layer_count; ++i) RETORT_CHECK(load_layer(i));
        return check_all_used();
    }

  private:
    [[nodiscard]] std::string name(ModelTensor tensor) const { return tensor_name(source_.naming, tensor); }

    Status load_layer(std::int64_t index) {
        LayerWeights& layer = weights_.layers.emplace_back();
        RETORT_TRY(layer.attention_norm, layer_vector(LayerTensor::attention_norm, index));
        RETORT_TRY(layer.query, layer_matrix(LayerTensor::query, index));
        RETORT_TRY(layer.key, layer_matrix(LayerTensor::key, index));
        RETORT_TRY(layer.value, layer_matrix(LayerTensor::value, index));
        RETORT_TRY(layer.output, layer_matrix(LayerTensor::output, index));
        RETORT_TRY(layer.query_bias, layer_vector(LayerTensor::query_bias, index));
        RETORT_TRY(layer.key_bias, layer_vector(LayerTensor::key_bias, index));
        RETORT_TRY(layer.value_bias, layer_vector(LayerTensor::value_bias, index));
        RETORT_TRY(layer.query_norm, layer_vector(LayerTensor::query_norm, index));
        RETORT_TRY(layer.key_norm, layer_vector(LayerTensor::key_norm, index));
        RETORT_TRY(layer.mlp_norm, layer_vector(LayerTensor::mlp_norm, index));
        RETORT_TRY(layer.gate, layer_matrix(LayerTensor::gate, index));
        RETORT_TRY(layer.up, layer_matrix(LayerTensor::up, index));
        RETORT_TRY(layer.down, layer_matrix(LayerTensor::down, index));
        if (source_.interleaved_rotary) {
            layer.query = to_half_split(layer.query, weights_.config.head_dim);
            layer.key = to_half_split(layer.key, weights_.config.head_dim);
        }
        return {};
    }

    Result<MatrixView> layer_matrix(LayerTensor tensor, std::int64_t layer) {
        return matrix(tensor_name(source_.naming, tensor, layer), tensor_shape(weights_.config, tensor));
    }

    Result<std::vector<float>> layer_vector(LayerTensor tensor, std::int64_t layer) {
        if (!has_tensor(weights_.config, tensor)) return std::vector<float>{};
        return vector(tensor_name(source_.naming, tensor, layer), tensor_shape(weights_.config, tensor));
    }

    Result<const StoredTensor*> find(const std::string& tensor_name, const TensorShape& wanted) {
        const auto found = source_.tensors.find(tensor_name);
        if (found == source_.tensors.end()) {
            return fail(ErrorCode::format, "{}: tensor {} is missing", source_.name, tensor_name);
        }
        StoredTensor& stored = found->second;
        stored.used = true;
        std::vector<std::int64_t> expected = {wanted.rows};
        if (!wanted.is_vector()) expected.push_back(wanted.cols);
        if (stored.shape != expected) {
            const bool vocabulary = wanted.rows == weights_.config.vocab_size && stored.shape.size() == 2 &&
                                    stored.shape[1] == wanted.cols;
            return fail(ErrorCode::format, "{}: {}tensor {} is {}, not the {} that the config says",
                        source_.name, vocabulary ? "wrong vocabulary size: " : "", tensor_name,
                        shape_text(stored.shape), shape_text(expected));
        }
        return &stored;
    }

    Result<MatrixView> matrix(const std::string& tensor_name, const TensorShape& wanted) {
        RETORT_TRY(const StoredTensor* stored, find(tensor_name, wanted));
        MatrixView view{stored->dtype, wanted.rows, wanted.cols, stored->data.data()};
        // Kernels load whole numbers; a file may put them anywhere.
        if (reinterpret_cast<std::uintptr_t>(view.data) % natural_alignment(view.dtype) != 0) {
            auto copy = allocate(stored->data.size());
            std::memcpy(copy.get(), stored->data.data(), stored->data.size());
            view.data = keep(std::move(copy));
        } else if (source_.mapped) {
            weights_.mapped.push_back(stored->data);
        }
        weights_.bytes += static_cast<std::int64_t>(stored->data.size());
        return view;
    }

    Result<std::vector<float>> vector(const std::string& tensor_name, const TensorShape& wanted) {
        RETORT_TRY(const StoredTensor* stored, find(tensor_name, wanted));
        std::vector<float> values(static_cast<std::size_t>(wanted.rows));
        tensor::dequantise(stored->dtype, stored->data.data(), values.data(), wanted.rows);
        return values;
    }

    // Row 2i+p of a head becomes row i + p·head_dim/2: whole rows move, so the number format does not matter.
    MatrixView to_half_split(const MatrixView& from, std::int64_t head_dim) {
        const auto row_bytes = static_cast<std::size_t>(from.row_bytes());
        auto copy = allocate(row_bytes * static_cast<std::size_t>(from.rows));
        for (std::int64_t row = 0; row < from.rows; ++row) {
            const std::int64_t head = row / head_dim;
            const std::int64_t within = row % head_dim;
            const std::int64_t target = head * head_dim + within / 2 + within % 2 * (head_dim / 2);
            std::memcpy(copy.get() + static_cast<std::size_t>(target) * row_bytes, from.row(row), row_bytes);
        }
        forget_matrix(weights_, from);
        MatrixView view = from;
        view.data = keep(std::move(copy));
        return view;
    }

    static std::unique_ptr<std::byte[]> allocate(std::size_t size) {
        return std::make_unique_for_overwrite<std::byte[]>(size);
    }

    const std::byte* keep(std::unique_ptr<std::byte[]> bytes) {
        std::shared_ptr<const std::byte[]> shared = std::move(bytes);
        const std::byte* data = shared.get();
        weights_.owners.emplace_back(std::move(shared), data);
        return data;
    }

    void mark_used(const std::string& tensor_name) {
        if (const auto found = source_.tensors.find(tensor_name); found != source_.tensors.end()) {
            found->second.used = true;
        }
    }

    // A tensor that nothing reads would change what the model computes, were it read.
    Status check_all_used() {
        for (const auto& [tensor_name, stored] : source_.tensors) {
            if (stored.used || tensor_name.ends_with("rotary_emb.inv_freq") ||
                tensor_name == "rope_freqs.weight") {
                continue;
            }
            return fail(ErrorCode::unsupported, "{}: tensor {} {} has no place in a {} model of {} layers",
                        source_.name, tensor_name, shape_text(stored.shape), weights_.config.architecture,
                        weights_.config.layer_count);
        }
        return {};
    }

    Source& source_;
    Weights& weights_;
};

Result<Weights> load_gguf(const fs::path& path) {
    RETORT_TRY(const auto file, formats::GgufFile::open(path));
    return load_weights(file);
}

Result<Weights> load_safetensors(const fs::path& path) {
    std::error_code code;
    const fs::path folder = fs::is_directory(path, code) ? path : path.parent_path();
    const fs::path config_path = folder / "config.json";
    RETORT_TRY(const auto text, base::read_file(config_path, std::size_t{16} << 20U));
    Weights weights;
    auto config = config_from_json(text);
    if (!config) return fail_from(std::move(config.error()), config_path.string());
    weights.config = std::move(*config);
    RETORT_TRY(const auto files, formats::open_safetensors(path));
    Source source;
    source.name = path.string();
    source.mapped = true;
    for (const formats::SafetensorsFile& file : files) {
        weights.owners.push_back(file.owner());
        for (const formats::SafetensorsTensor& tensor : file.tensors()) {
            if (!tensor.dtype) {
                if (tensor.name.ends_with("rotary_emb.inv_freq")) continue;
                return fail(ErrorCode::unsupported,
                            "{}: tensor {} is stored as {}; F32, F16 and BF16 are read", file.name(),
                            tensor.name, tensor.dtype_name);
            }
            if (!source.tensors.emplace(tensor.name, StoredTensor{*tensor.dtype, tensor.shape, tensor.data})
                     .second) {
                return fail(ErrorCode::format, "{}: tensor {} is in two files", source.name, tensor.name);
            }
        }
    }
    RETORT_CHECK(Loader(source, weights).load());
    return weights;
}

bool begins_as_gguf(const fs::path& path) {
    const auto file = base::MappedFile::open(path);
    return file && file->text().starts_with("GGUF");
}

}  // namespace

Result<Weights> load_weights(const formats::GgufFile& file) {
    Weights weights;
    RETORT_TRY(weights.config, config_from_gguf(file));
    Source source;
    if (file.owner()) {
        weights.owners.push_back(file.owner());
        source.mapped = true;
    }
    source.name = file.name();
    source.naming = TensorNaming::gguf;
    source.interleaved_rotary = weights.config.architecture == "llama";
    for (const formats::GgufTensor& tensor : file.tensors()) {
        source.tensors.emplace(std::string(tensor.name),
                               StoredTensor{tensor.dtype, tensor.shape, tensor.data});
    }
    RETORT_CHECK(Loader(source, weights).load());
    return weights;
}

Result<Weights> load_weights(const fs::path& path) {
    std::error_code code;
    if (!fs::exists(path, code)) {
        return fail(ErrorCode::not_found, "{}: no such file or folder", path.string());
    }
    if (fs::is_directory(path, code)) {
        const bool hugging_face = fs::exists(path / "config.json", code);
        std::vector<fs::path> gguf_files;
        for (const auto& entry : fs::directory_iterator(path, code)) {
            if (entry.path().extension() == ".gguf") gguf_files.push_back(entry.path());
        }
        if (!hugging_face && gguf_files.size() == 1) return load_gguf(gguf_files.front());
        if (!hugging_face && gguf_files.size() > 1) {
            return fail(ErrorCode::invalid_argument, "{}: {} GGUF files here; name the one that is meant",
                        path.string(), gguf_files.size());
        }
        if (!hugging_face) {
            return fail(ErrorCode::not_found, "{}: no model here: neither config.json nor a GGUF file",
                        path.string());
        }
        return load_safetensors(path);
    }
    if (path.extension() == ".gguf" || begins_as_gguf(path)) return load_gguf(path);
    return load_safetensors(path);
}

void forget_matrix(const Weights& weights, const tensor::MatrixView& matrix) {
    const std::span<const std::byte> bytes(matrix.data,
                                           static_cast<std::size_t>(matrix.rows * matrix.row_bytes()));
    for (const std::span<const std::byte> mapped : weights.mapped) {
        if (mapped.data() == bytes.data() && mapped.size() == bytes.size()) base::forget_pages(bytes);
    }
}

Weights dequantised(const Weights& weights) {
    Weights result = weights;
    result.mapped.clear();
    result.bytes = 0;
    const auto convert = [&result](MatrixView& view) {
        const std::int64_t elements = view.rows * view.cols;
        std::shared_ptr<float[]> values(new float[static_cast<std::size_t>(elements)]);
        for (std::int64_t row = 0; row < view.rows; ++row) {
            tensor::dequantise(view.dtype, view.row(row), values.get() + row * view.cols, view.cols);
        }
        view.dtype = DType::f32;
        view.data = reinterpret_cast<const std::byte*>(values.get());
        result.owners.emplace_back(values, values.get());
        result.bytes += elements * static_cast<std::int64_t>(sizeof(float));
    };
    result.owners.clear();
    convert(result.embedding);
    if (weights.config.tie_embeddings) {
        result.head = result.embedding;
    } else {
        convert(result.head);
    }
    for (LayerWeights& layer : result.layers) {
        for (MatrixView* view :
             {&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down}) {
            convert(*view);
        }
    }
    return result;
}

}  // namespace retort::model
