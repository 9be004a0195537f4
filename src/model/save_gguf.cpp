#include <algorithm>

#include "base/interrupt.h"
#include "formats/gguf_writer.h"
#include "model/config_gguf.h"
#include "model/save.h"
#include "model/save_checks.h"
#include "model/tensor_names.h"
#include "tensor/quantised.h"

namespace retort::model {

namespace {

namespace fs = std::filesystem;
using formats::GgufArray;
using formats::GgufMetadata;
using formats::GgufValue;
using formats::TensorDescription;
using tensor::DType;

// How one tensor is written: from the values of `source`, its rows in the order that `rotary_head_dim` asks
// for.
struct Plan {
    TensorDescription description;
    std::span<const float> values;
    std::int64_t rotary_head_dim = 0;  // above 0: query or key rows of a llama, to be interleaved
};

// The format's number of a file's main type.
std::uint32_t file_type(DType dtype) {
    switch (dtype) {
        case DType::f32:
            return 0;
        case DType::f16:
            return 1;
        case DType::q4_0:
            return 2;
        case DType::q4_1:
            return 3;
        case DType::q8_0:
            return 7;
        default:
            return 32;  // bf16
    }
}

DType matrix_dtype(DType wanted, std::int64_t cols, bool vocabulary) {
    // The embedding and the head decide the words: 4 bits cost them more than they save.
    const DType dtype = vocabulary && (wanted == DType::q4_0 || wanted == DType::q4_1) ? DType::q8_0 : wanted;
    return cols % tensor::dtype_info(dtype).block_elements == 0 ? dtype : DType::f16;
}

std::vector<Plan> make_plans(const ModelConfig& config, const std::vector<const NamedTensor*>& tensors,
                             DType dtype, const std::vector<float>& rope_factors) {
    std::vector<Plan> plans;
    std::size_t next = 0;
    const auto add = [&](std::string name, bool vocabulary, bool rotary) {
        const NamedTensor& tensor = *tensors[next++];
        const bool matrix = tensor.shape.size() == 2;
        const DType stored = matrix ? matrix_dtype(dtype, tensor.shape[1], vocabulary) : DType::f32;
        plans.push_back(
            {{std::move(name), stored, tensor.shape}, tensor.values, rotary ? config.head_dim : 0});
    };
    const bool interleaved = config.architecture == "llama" || config.architecture == "mistral";
    // In the order of tensors_to_write.
    add(tensor_name(TensorNaming::gguf, ModelTensor::embedding), true, false);
    if (!rope_factors.empty()) {
        plans.push_back({{"rope_freqs.weight", DType::f32, {config.head_dim / 2}}, rope_factors, 0});
    }
    for (std::int64_t layer = 0; layer < config.layer_count; ++layer) {
        for (std::size_t i = 0; i < layer_tensor_kinds; ++i) {
            const auto kind = static_cast<LayerTensor>(i);
            if (!has_tensor(config, kind)) continue;
            const bool rotary = interleaved && (kind == LayerTensor::query || kind == LayerTensor::key);
            add(tensor_name(TensorNaming::gguf, kind, layer), false, rotary);
        }
    }
    add(tensor_name(TensorNaming::gguf, ModelTensor::final_norm), false, false);
    if (!config.tie_embeddings) add(tensor_name(TensorNaming::gguf, ModelTensor::head), true, false);
    return plans;
}

Status write_rows(formats::GgufWriter& writer, const Plan& plan) {
    const std::int64_t cols = plan.description.shape.back();
    const auto rows = static_cast<std::int64_t>(plan.values.size()) / cols;
    std::vector<std::byte> bytes(static_cast<std::size_t>(tensor::dtype_bytes(plan.description.dtype, cols)));
    const std::int64_t head = plan.rotary_head_dim;
    for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t from = head == 0 ? row : row / head * head + row % 2 * (head / 2) + row % head / 2;
        if (auto status = tensor::quantise(plan.description.dtype, plan.values.data() + from * cols,
                                           bytes.data(), cols);
            !status) {
            return fail_from(std::move(status.error()), plan.description.name);
        }
        RETORT_CHECK(writer.append(bytes));
    }
    return {};
}

// llama3's scaling goes into a GGUF file as the divisors that follow from it.
std::vector<float> stored_rope_factors(const ModelConfig& config) {
    if (!config.rope.factors.empty() || config.rope.scaling != RopeScaling::llama3)
        return config.rope.factors;
    ModelConfig plain = config;
    plain.rope.scaling = RopeScaling::none;
    const std::vector<double> unscaled = rope_frequencies(plain).inverse;
    const std::vector<double> scaled = rope_frequencies(config).inverse;
    std::vector<float> factors(unscaled.size());
    for (std::size_t i = 0; i < factors.size(); ++i) factors[i] = static_cast<float>(unscaled[i] / scaled[i]);
    return factors;
}

// Readers take the number of tokens for the vocabulary's size: the rows beyond a tokenizer's last id need
// names.
Status fill_up_tokens(GgufMetadata& tokenizer, std::int64_t vocab_size, const std::string& path) {
    constexpr std::int32_t unused_type = 5;
    const auto find = [&](std::string_view key) -> GgufArray* {
        for (auto& [name, value] : tokenizer) {
            if (name == key) return std::get_if<GgufArray>(&value.value);
        }
        return nullptr;
    };
    GgufArray* tokens = find("tokenizer.ggml.tokens");
    if (tokens == nullptr || static_cast<std::int64_t>(tokens->count) == vocab_size) return {};
    const auto count = static_cast<std::int64_t>(tokens->count);
    if (count > vocab_size) {
        return fail(ErrorCode::invalid_argument,
                    "{}: wrong vocabulary size: {} tokens for an embedding of {} rows", path, count,
                    vocab_size);
    }
    std::vector<std::string> names(tokens->strings.begin(), tokens->strings.end());
    for (std::int64_t id = count; id < vocab_size; ++id) names.push_back(fmt::format("[PAD{}]", id));
    *tokens = std::get<GgufArray>(GgufValue::of_strings(std::move(names)).value);
    if (GgufArray* types = find("tokenizer.ggml.token_type")) {
        RETORT_TRY(const auto numbers, types->integers());
        std::vector<std::int32_t> filled(numbers.begin(), numbers.end());
        filled.resize(static_cast<std::size_t>(vocab_size), unused_type);
        *types = std::get<GgufArray>(GgufValue::of_i32s(std::move(filled)).value);
    }
    if (GgufArray* scores = find("tokenizer.ggml.scores")) {
        RETORT_TRY(const auto numbers, scores->numbers());
        std::vector<float> filled(numbers.begin(), numbers.end());
        filled.resize(static_cast<std::size_t>(vocab_size), -1000.0F);
        *scores = std::get<GgufArray>(GgufValue::of_f32s(std::move(filled)).value);
    }
    return {};
}

Result<GgufMetadata> make_metadata(const ModelConfig& config, const GgufOptions& options,
                                   const std::string& path) {
    GgufMetadata metadata = config_to_gguf(config);
    const auto put = [&](std::string key, GgufValue value) {
        metadata.emplace_back(std::move(key), std::move(value));
    };
    put("general.type", GgufValue::of_string("model"));
    if (!options.name.empty()) put("general.name", GgufValue::of_string(options.name));
    if (!options.licence.empty()) put("general.license", GgufValue::of_string(options.licence));
    put("general.file_type", GgufValue::of_u32(file_type(options.dtype)));
    if (tensor::is_quantised(options.dtype)) put("general.quantization_version", GgufValue::of_u32(2));
    GgufMetadata tokenizer = options.tokenizer;
    RETORT_CHECK(fill_up_tokens(tokenizer, config.vocab_size, path));
    for (auto& [key, value] : tokenizer) put(key, std::move(value));
    return metadata;
}

}  // namespace

Status save_gguf(const fs::path& path, const ModelConfig& config, std::span<const NamedTensor> tensors,
                 const GgufOptions& options) {
    RETORT_CHECK(validate(config));
    if (tensor::is_quantised(options.dtype) && options.dtype > DType::q4_1) {
        return fail(ErrorCode::unsupported,
                    "{}: {} is read but not written; choose f32, f16, bf16, q8_0, q4_0 or q4_1",
                    path.string(), tensor::dtype_info(options.dtype).name);
    }
    if (config.rope.scaling == RopeScaling::yarn && !config.rope.truncate) {
        return fail(ErrorCode::unsupported,
                    "{}: GGUF cannot say yarn's truncate false; write a Hugging Face folder", path.string());
    }
    RETORT_TRY(const auto written, tensors_to_write(config, tensors));
    RETORT_TRY(const auto metadata, make_metadata(config, options, path.string()));
    const std::vector<float> rope_factors = stored_rope_factors(config);
    const std::vector<Plan> plans = make_plans(config, written, options.dtype, rope_factors);
    std::vector<TensorDescription> descriptions;
    descriptions.reserve(plans.size());
    for (const Plan& plan : plans) descriptions.push_back(plan.description);
    RETORT_TRY(auto writer, formats::GgufWriter::create(path, metadata, std::move(descriptions)));
    for (const Plan& plan : plans) {
        if (base::interrupted())
            return fail(ErrorCode::cancelled, "{}: interrupted; nothing was written", path.string());
        if (auto status = write_rows(writer, plan); !status)
            return fail_from(std::move(status.error()), path.string());
    }
    return writer.commit();
}

}  // namespace retort::model
