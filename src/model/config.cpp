#include "model/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace retort::model {

namespace {

struct NamedSize {
    std::string_view name;
    std::int64_t value;
};

std::vector<double> unscaled_frequencies(const ModelConfig& config) {
    std::vector<double> inverse(static_cast<std::size_t>(config.head_dim / 2));
    for (std::size_t i = 0; i < inverse.size(); ++i) {
        inverse[i] =
            std::pow(config.rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim));
    }
    return inverse;
}

// Long wavelengths are stretched by the factor, short ones kept, those between blended by how many turns fit
// into the original context.
void scale_llama3(const Rope& rope, std::vector<double>& inverse) {
    const auto context = static_cast<double>(rope.original_context);
    for (double& frequency : inverse) {
        const double turns = context * frequency / (2.0 * std::numbers::pi);
        if (turns < rope.low_freq_factor) {
            frequency /= rope.factor;
        } else if (turns <= rope.high_freq_factor) {
            const double kept =
                (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
            frequency = (1.0 - kept) * frequency / rope.factor + kept * frequency;
        }
    }
}

// YaRN (Peng et al. 2023), "NTK by parts": a linear ramp over the dimensions between beta_fast and beta_slow
// turns.
void scale_yarn(const Rope& rope, std::int64_t head_dim, std::vector<double>& inverse) {
    const auto dim = static_cast<double>(head_dim);
    const auto dimension_of = [&](double turns) {
        return dim * std::log(static_cast<double>(rope.original_context) / (turns * 2.0 * std::numbers::pi)) /
               (2.0 * std::log(rope.theta));
    };
    double low = dimension_of(rope.beta_fast);
    double high = dimension_of(rope.beta_slow);
    if (rope.truncate) {
        low = std::floor(low);
        high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1.0);
    if (low == high) high += 0.001;
    for (std::size_t i = 0; i < inverse.size(); ++i) {
        const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        inverse[i] = inverse[i] / rope.factor * ramp + inverse[i] * (1.0 - ramp);
    }
}

Status validate_rope(const ModelConfig& config) {
    const Rope& rope = config.rope;
    if (!std::isfinite(rope.theta) || rope.theta <= 1.0) {
        return fail(ErrorCode::format, "rope theta {} is no number above 1", rope.theta);
    }
    if (!rope.factors.empty() && static_cast<std::int64_t>(rope.factors.size()) != config.head_dim / 2) {
        return fail(ErrorCode::format, "{} rope frequency factors for a head of {}; half as many are wanted",
                    rope.factors.size(), config.head_dim);
    }
    for (const float factor : rope.factors) {
        if (!std::isfinite(factor) || factor <= 0.0F) {
            return fail(ErrorCode::format, "a rope frequency factor is {}", factor);
        }
    }
    if (rope.scaling == RopeScaling::none) return {};
    if (!std::isfinite(rope.factor) || rope.factor <= 0.0) {
        return fail(ErrorCode::format, "rope scaling factor {} is not above 0", rope.factor);
    }
    if (rope.scaling == RopeScaling::linear) return {};
    if (rope.original_context < 1) {
        return fail(ErrorCode::format, "rope scaling of this kind wants original_max_position_embeddings");
    }
    if (rope.scaling == RopeScaling::llama3 &&
        !(rope.low_freq_factor > 0.0 && rope.high_freq_factor > rope.low_freq_factor)) {
        return fail(ErrorCode::format,
                    "rope low_freq_factor {} and high_freq_factor {}: the second must be larger",
                    rope.low_freq_factor, rope.high_freq_factor);
    }
    if (rope.scaling == RopeScaling::yarn && !(rope.beta_slow > 0.0 && rope.beta_fast >= rope.beta_slow)) {
        return fail(ErrorCode::format, "rope beta_fast {} and beta_slow {}: the first must be larger",
                    rope.beta_fast, rope.beta_slow);
    }
    if (!std::isfinite(rope.attention_factor) || rope.attention_factor < 0.0) {
        return fail(ErrorCode::format, "rope attention_factor {} is not above 0", rope.attention_factor);
    }
    return {};
}

}  // namespace

std::int64_t ModelConfig::parameter_count() const {
    const std::int64_t attention = 2 * hidden_size * query_size() + 2 * hidden_size * kv_size();
    const std::int64_t biases = qkv_bias ? query_size() + 2 * kv_size() : 0;
    const std::int64_t head_norms = qk_norm ? 2 * head_dim : 0;
    const std::int64_t layer =
        attention + biases + head_norms + 3 * hidden_size * intermediate_size + 2 * hidden_size;
    const std::int64_t embedding = vocab_size * hidden_size;
    return layer_count * layer + (tie_embeddings ? 1 : 2) * embedding + hidden_size;
}

Status validate(const ModelConfig& config) {
    constexpr std::int64_t limit = (std::int64_t{1} << 31) - 1;
    const std::array<NamedSize, 8> sizes = {{{"vocab_size", config.vocab_size},
                                             {"hidden_size", config.hidden_size},
                                             {"intermediate_size", config.intermediate_size},
                                             {"num_hidden_layers", config.layer_count},
                                             {"num_attention_heads", config.head_count},
                                             {"num_key_value_heads", config.kv_head_count},
                                             {"head_dim", config.head_dim},
                                             {"max_position_embeddings", config.context_length}}};
    for (const NamedSize& size : sizes) {
        if (size.value < 1 || size.value > limit) {
            return fail(ErrorCode::format, "{} is {}; 1 to {} are possible", size.name, size.value, limit);
        }
    }
    if (config.head_count % config.kv_head_count != 0) {
        return fail(ErrorCode::format, "{} attention heads cannot share {} key and value heads evenly",
                    config.head_count, config.kv_head_count);
    }
    if (config.head_dim % 2 != 0) {
        return fail(ErrorCode::format, "head_dim is {}; rotary embedding wants an even one", config.head_dim);
    }
    if (config.query_size() > limit) {
        return fail(ErrorCode::format, "{} heads of {} are beyond {} together", config.head_count,
                    config.head_dim, limit);
    }
    // Each product is below 2^62; their sum over layers may not be.
    const double layer =
        2.0 * static_cast<double>(config.hidden_size) * static_cast<double>(config.query_size()) * 2.0 +
        3.0 * static_cast<double>(config.hidden_size) * static_cast<double>(config.intermediate_size);
    if (layer * static_cast<double>(config.layer_count) +
            2.0 * static_cast<double>(config.vocab_size) * static_cast<double>(config.hidden_size) >
        4e18) {
        return fail(ErrorCode::format, "a model of these sizes has more weights than can be counted");
    }
    if (!std::isfinite(config.rms_norm_eps) || config.rms_norm_eps < 0.0F) {
        return fail(ErrorCode::format, "rms_norm_eps is {}", config.rms_norm_eps);
    }
    return validate_rope(config);
}

RopeFrequencies rope_frequencies(const ModelConfig& config) {
    const Rope& rope = config.rope;
    RopeFrequencies result;
    result.inverse = unscaled_frequencies(config);
    if (!rope.factors.empty()) {
        for (std::size_t i = 0; i < result.inverse.size(); ++i)
            result.inverse[i] /= static_cast<double>(rope.factors[i]);
        return result;
    }
    switch (rope.scaling) {
        case RopeScaling::none:
            break;
        case RopeScaling::linear:
            for (double& frequency : result.inverse) frequency /= rope.factor;
            break;
        case RopeScaling::llama3:
            scale_llama3(rope, result.inverse);
            break;
        case RopeScaling::yarn:
            scale_yarn(rope, config.head_dim, result.inverse);
            result.scale = rope.attention_factor > 0.0
                               ? rope.attention_factor
                               : (rope.factor <= 1.0 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0);
            break;
    }
    return result;
}

}  // namespace retort::model
