#include "model/config_gguf.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace retort::model {

namespace {

using formats::GgufArray;
using formats::GgufFile;
using formats::GgufMetadata;
using formats::GgufTensor;
using formats::GgufValue;

// Keys below "ARCHITECTURE." that are read, or that say nothing about the computation.
constexpr std::array<std::string_view, 29> known_keys = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.sliding_window",
    "attention.causal",
    "rope.freq_base",
    "rope.dimension_count",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "expert_count",
    "expert_used_count",
    "tensor_data_layout",
    "use_parallel_residual",
};

// The keys of one file, with the architecture's prefix put on.
class Keys {
  public:
    Keys(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

    [[nodiscard]] std::string full(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }
    [[nodiscard]] bool has(std::string_view key) const { return file_.find(full(key)) != nullptr; }
    [[nodiscard]] Result<double> number(std::string_view key) const { return file_.number(full(key)); }
    [[nodiscard]] Result<double> number_or(std::string_view key, double fallback) const {
        return file_.number_or(full(key), fallback);
    }
    [[nodiscard]] Result<std::int64_t> integer_or(std::string_view key, std::int64_t fallback) const {
        return file_.integer_or(full(key), fallback);
    }

    // One number, or a number a layer that must be the same in all.
    [[nodiscard]] Result<std::int64_t> integer(std::string_view key) const {
        const GgufValue* value = file_.find(full(key));
        const auto* array = value == nullptr ? nullptr : std::get_if<GgufArray>(&value->value);
        if (array == nullptr) return file_.integer(full(key));
        RETORT_TRY(const auto layers, array->integers());
        if (layers.empty()) return fail(ErrorCode::format, "{}: {} is empty", file_.name(), full(key));
        if (std::any_of(layers.begin(), layers.end(), [&](std::int64_t n) { return n != layers.front(); })) {
            return fail(ErrorCode::unsupported, "{}: {} differs from layer to layer, which is not supported",
                        file_.name(), full(key));
        }
        return layers.front();
    }

  private:
    const GgufFile& file_;
    std::string prefix_;
};

Status refuse_unknown_keys(const GgufFile& file, const std::string& architecture) {
    const std::string prefix = architecture + ".";
    for (const auto& [key, value] : file.metadata()) {
        if (!key.starts_with(prefix)) continue;
        const auto rest = std::string_view(key).substr(prefix.size());
        if (std::find(known_keys.begin(), known_keys.end(), rest) == known_keys.end()) {
            return fail(ErrorCode::unsupported,
                        "{}: metadata key {} is not understood, and may change what the model "
                        "computes",
                        file.name(), key);
        }
    }
    return {};
}

Status refuse_other_computation(const GgufFile& file, const Keys& keys, std::int64_t context) {
    RETORT_TRY(const std::int64_t experts, keys.integer_or("expert_count", 0));
    if (experts > 0) {
        return fail(ErrorCode::unsupported, "{}: a mixture of {} experts is not supported", file.name(),
                    experts);
    }
    RETORT_TRY(const bool causal, file.boolean_or(keys.full("attention.causal"), true));
    if (!causal)
        return fail(ErrorCode::unsupported, "{}: attention that is not causal is not supported", file.name());
    RETORT_TRY(const bool parallel, file.boolean_or(keys.full("use_parallel_residual"), false));
    if (parallel)
        return fail(ErrorCode::unsupported, "{}: a parallel residual is not supported", file.name());
    RETORT_TRY(const std::int64_t window, keys.integer_or("attention.sliding_window", 0));
    if (window > 0 && window < context) {
        return fail(ErrorCode::unsupported, "{}: a sliding window of {} acts within the context of {}",
                    file.name(), window, context);
    }
    RETORT_TRY(const std::int64_t parts, file.integer_or("split.count", 1));
    if (parts > 1) {
        return fail(ErrorCode::unsupported, "{}: one of {} parts of a split model; merge them into one file",
                    file.name(), parts);
    }
    return {};
}

// llama3's scaling, which a GGUF file holds only as the divisors that follow from it: those of the context
// that the file states, or of the published ones.
bool recognise_llama3(ModelConfig& config, const std::vector<float>& factors, std::int64_t stated_context) {
    const float largest = *std::max_element(factors.begin(), factors.end());
    for (const std::int64_t original :
         {stated_context, std::int64_t{8192}, std::int64_t{4096}, std::int64_t{2048}}) {
        if (original < 1) continue;
        ModelConfig guess = config;
        guess.rope.scaling = RopeScaling::llama3;
        guess.rope.factor = std::round(static_cast<double>(largest));
        guess.rope.low_freq_factor = 1.0;
        guess.rope.high_freq_factor = 4.0;
        guess.rope.original_context = original;
        if (guess.rope.factor <= 1.0) return false;
        const std::vector<double> scaled = rope_frequencies(guess).inverse;
        const std::vector<double> plain = rope_frequencies(config).inverse;
        bool same = true;
        for (std::size_t i = 0; i < factors.size(); ++i) {
            // The divisors went through f32 more than once: a few of its epsilons (2^-24) apart, not more.
            const double expected = plain[i] / scaled[i];
            same = same && std::fabs(static_cast<double>(factors[i]) - expected) <= expected * 0x1p-20;
        }
        if (same) {
            config.rope = guess.rope;
            return true;
        }
    }
    return false;
}

Status read_rope_factors(const GgufFile& file, const Keys& keys, ModelConfig& config) {
    const GgufTensor* tensor = file.find_tensor("rope_freqs.weight");
    if (tensor == nullptr) return {};
    if (tensor->dtype != tensor::DType::f32 || tensor->elements() != config.head_dim / 2) {
        return fail(ErrorCode::format, "{}: rope_freqs.weight is not {} numbers of f32", file.name(),
                    config.head_dim / 2);
    }
    if (config.rope.scaling != RopeScaling::none) {
        return fail(ErrorCode::unsupported, "{}: both rope_freqs.weight and a rope scaling", file.name());
    }
    std::vector<float> factors(static_cast<std::size_t>(config.head_dim / 2));
    std::copy_n(tensor->data.begin(), tensor->data.size(),
                std::as_writable_bytes(std::span(factors)).begin());
    for (const float factor : factors) {
        if (!std::isfinite(factor) || factor <= 0.0F) {
            return fail(ErrorCode::format, "{}: rope_freqs.weight holds {}", file.name(), factor);
        }
    }
    RETORT_TRY(const std::int64_t stated_context, keys.integer_or("rope.scaling.original_context_length", 0));
    if (!recognise_llama3(config, factors, stated_context)) config.rope.factors = std::move(factors);
    return {};
}

Status read_rope(const GgufFile& file, const Keys& keys, ModelConfig& config) {
    Rope& rope = config.rope;
    RETORT_TRY(rope.theta, keys.number_or("rope.freq_base", 10000.0));
    RETORT_TRY(const std::int64_t rotated, keys.integer_or("rope.dimension_count", config.head_dim));
    if (rotated != config.head_dim) {
        return fail(ErrorCode::unsupported,
                    "{}: {} of a head's {} dimensions are rotated; all is what is supported", file.name(),
                    rotated, config.head_dim);
    }
    RETORT_TRY(const double old_linear, keys.number_or("rope.scale_linear", 1.0));
    RETORT_TRY(const std::string type,
               file.string_or(keys.full("rope.scaling.type"), old_linear == 1.0 ? "none" : "linear"));
    RETORT_TRY(rope.factor, keys.number_or("rope.scaling.factor", old_linear));
    if (type == "none") return {};
    if (type == "linear") {
        rope.scaling = RopeScaling::linear;
        return {};
    }
    if (type != "yarn") {
        return fail(ErrorCode::unsupported,
                    "{}: rope scaling {} is not supported (none, linear and yarn are)", file.name(), type);
    }
    rope.scaling = RopeScaling::yarn;
    RETORT_TRY(rope.original_context,
               keys.integer_or("rope.scaling.original_context_length", config.context_length));
    RETORT_TRY(rope.beta_fast, keys.number_or("rope.scaling.yarn_beta_fast", 32.0));
    RETORT_TRY(rope.beta_slow, keys.number_or("rope.scaling.yarn_beta_slow", 1.0));
    RETORT_TRY(const double extrapolation, keys.number_or("rope.scaling.yarn_ext_factor", 1.0));
    if (extrapolation != 1.0) {
        return fail(ErrorCode::unsupported, "{}: yarn_ext_factor {} is not supported (1 is)", file.name(),
                    extrapolation);
    }
    // A multiple of the scale that follows from the factor.
    RETORT_TRY(const double old_multiple, keys.number_or("rope.scaling.attn_factor", 1.0));
    RETORT_TRY(const double multiple, keys.number_or("rope.scaling.yarn_attn_factor", old_multiple));
    if (multiple != 1.0) {
        rope.attention_factor = multiple * (rope.factor <= 1.0 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0);
    }
    return {};
}

Status read_vocabulary(const GgufFile& file, const Keys& keys, ModelConfig& config) {
    const GgufTensor* embedding = file.find_tensor("token_embd.weight");
    if (embedding == nullptr)
        return fail(ErrorCode::format, "{}: tensor token_embd.weight is missing", file.name());
    config.vocab_size = embedding->shape.front();
    RETORT_TRY(const std::int64_t stated, keys.integer_or("vocab_size", config.vocab_size));
    if (stated != config.vocab_size) {
        return fail(ErrorCode::format,
                    "{}: wrong vocabulary size: {} is {}, but token_embd.weight has {} rows", file.name(),
                    keys.full("vocab_size"), stated, config.vocab_size);
    }
    if (file.find("tokenizer.ggml.tokens") != nullptr) {
        RETORT_TRY(const auto tokens, file.strings("tokenizer.ggml.tokens"));
        if (static_cast<std::int64_t>(tokens.size()) > config.vocab_size) {
            return fail(ErrorCode::format,
                        "{}: wrong vocabulary size: {} tokens, but token_embd.weight has {} rows",
                        file.name(), tokens.size(), config.vocab_size);
        }
    }
    RETORT_TRY(config.bos_token_id, file.integer_or("tokenizer.ggml.bos_token_id", -1));
    for (const std::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
        if (file.find(key) == nullptr) continue;
        RETORT_TRY(const std::int64_t id, file.integer(key));
        auto& ids = config.eos_token_ids;
        if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
    }
    return {};
}

}  // namespace

Result<ModelConfig> config_from_gguf(const GgufFile& file) {
    ModelConfig config;
    RETORT_TRY(config.architecture, file.string("general.architecture"));
    const std::string& architecture = config.architecture;
    if (architecture != "llama" && architecture != "qwen2" && architecture != "qwen3") {
        return fail(
            ErrorCode::unsupported,
            "{}: architecture {} is not one that runs here (llama, qwen2, qwen3); ask it over an API instead",
            file.name(), architecture);
    }
    config.qkv_bias = architecture == "qwen2";
    config.qk_norm = architecture == "qwen3";
    RETORT_CHECK(refuse_unknown_keys(file, architecture));
    const Keys keys(file, architecture);
    RETORT_TRY(config.layer_count, keys.integer("block_count"));
    RETORT_TRY(config.context_length, keys.integer("context_length"));
    RETORT_TRY(config.hidden_size, keys.integer("embedding_length"));
    RETORT_TRY(config.intermediate_size, keys.integer("feed_forward_length"));
    RETORT_TRY(config.head_count, keys.integer("attention.head_count"));
    if (keys.has("attention.head_count_kv")) {
        RETORT_TRY(config.kv_head_count, keys.integer("attention.head_count_kv"));
    } else {
        config.kv_head_count = config.head_count;
    }
    if (config.head_count < 1) {
        return fail(ErrorCode::format, "{}: {} is {}", file.name(), keys.full("attention.head_count"),
                    config.head_count);
    }
    if (!keys.has("attention.key_length") && config.hidden_size % config.head_count != 0) {
        return fail(ErrorCode::format, "{}: embedding_length {} is no multiple of {} heads", file.name(),
                    config.hidden_size, config.head_count);
    }
    RETORT_TRY(config.head_dim,
               keys.integer_or("attention.key_length", config.hidden_size / config.head_count));
    RETORT_TRY(const std::int64_t value_dim, keys.integer_or("attention.value_length", config.head_dim));
    if (value_dim != config.head_dim) {
        return fail(ErrorCode::unsupported,
                    "{}: keys of {} and values of {} dimensions; equal is what is supported", file.name(),
                    config.head_dim, value_dim);
    }
    RETORT_TRY(const double epsilon, keys.number("attention.layer_norm_rms_epsilon"));
    config.rms_norm_eps = static_cast<float>(epsilon);
    config.tie_embeddings = file.find_tensor("output.weight") == nullptr;
    RETORT_CHECK(refuse_other_computation(file, keys, config.context_length));
    RETORT_CHECK(read_vocabulary(file, keys, config));
    RETORT_CHECK(read_rope(file, keys, config));
    // Before the divisors, whose comparison computes with these numbers.
    if (auto status = validate(config); !status) return fail_from(std::move(status.error()), file.name());
    RETORT_CHECK(read_rope_factors(file, keys, config));
    return config;
}

GgufMetadata config_to_gguf(const ModelConfig& config) {
    const std::string architecture = config.architecture == "mistral" ? "llama" : config.architecture;
    GgufMetadata metadata;
    metadata.emplace_back("general.architecture", GgufValue::of_string(architecture));
    const auto put = [&](std::string_view key, GgufValue value) {
        metadata.emplace_back(fmt::format("{}.{}", architecture, key), std::move(value));
    };
    const auto put_size = [&](std::string_view key, std::int64_t value) {
        put(key, GgufValue::of_u32(static_cast<std::uint32_t>(value)));
    };
    put_size("block_count", config.layer_count);
    put_size("context_length", config.context_length);
    put_size("embedding_length", config.hidden_size);
    put_size("feed_forward_length", config.intermediate_size);
    put_size("attention.head_count", config.head_count);
    put_size("attention.head_count_kv", config.kv_head_count);
    put_size("attention.key_length", config.head_dim);
    put_size("attention.value_length", config.head_dim);
    put("attention.layer_norm_rms_epsilon", GgufValue::of_f32(config.rms_norm_eps));
    put("rope.freq_base", GgufValue::of_f32(static_cast<float>(config.rope.theta)));
    put_size("rope.dimension_count", config.head_dim);
    put_size("vocab_size", config.vocab_size);
    const Rope& rope = config.rope;
    if (rope.scaling == RopeScaling::linear || rope.scaling == RopeScaling::yarn) {
        const bool linear = rope.scaling == RopeScaling::linear;
        put("rope.scaling.type", GgufValue::of_string(linear ? "linear" : "yarn"));
        put("rope.scaling.factor", GgufValue::of_f32(static_cast<float>(rope.factor)));
    }
    if (rope.scaling == RopeScaling::yarn || rope.scaling == RopeScaling::llama3) {
        put_size("rope.scaling.original_context_length", rope.original_context);
    }
    if (rope.scaling == RopeScaling::yarn) {
        if (rope.beta_fast != 32.0) {
            put("rope.scaling.yarn_beta_fast", GgufValue::of_f32(static_cast<float>(rope.beta_fast)));
        }
        if (rope.beta_slow != 1.0) {
            put("rope.scaling.yarn_beta_slow", GgufValue::of_f32(static_cast<float>(rope.beta_slow)));
        }
        if (rope.attention_factor > 0.0) {
            const double natural = rope.factor <= 1.0 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0;
            put("rope.scaling.attn_factor",
                GgufValue::of_f32(static_cast<float>(rope.attention_factor / natural)));
        }
    }
    return metadata;
}

}  // namespace retort::model
