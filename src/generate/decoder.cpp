#include "generate/decoder.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "tensor/activation.h"
#include "tensor/linear.h"
#include "tensor/norm.h"
#include "tensor/team.h"

namespace retort::generate {

namespace {

tensor::AttentionShape attention_shape(const model::ModelConfig& config) {
    return {config.head_count, config.kv_head_count, config.head_dim};
}

// Calls body(begin, end) on shares of the rows, by the team that the products use: OpenMP's threads, which
// the kernels take by themselves for many rows, would spin in its way.
template <typename Body>
void each_rows(std::int64_t rows, const Body& body) {
    constexpr std::int64_t share = 7;  // fewer than any kernel would divide
    tensor::team_each((rows + share - 1) / share,
                      [&](std::int64_t i) { body(i * share, std::min(rows, (i + 1) * share)); });
}

// A few heads at a time, for the same reason.
void norm_heads(float* heads, const std::vector<float>& weight, std::int64_t count,
                const model::ModelConfig& config) {
    const std::int64_t size = config.head_dim;
    for (std::int64_t h = 0; h < count; h += 8) {
        tensor::rms_norm(heads + h * size, size, weight.data(), config.rms_norm_eps,
                         std::min<std::int64_t>(8, count - h), size, heads + h * size, size, nullptr);
    }
}

const float* bias_or_null(const std::vector<float>& bias) {
    return bias.empty() ? nullptr : bias.data();
}

}  // namespace

std::int64_t Decoder::page_bytes(const model::ModelConfig& config, tensor::DType cache_type) {
    return tensor::kv_page_bytes(attention_shape(config), cache_type) * config.layer_count;
}

Decoder::Decoder(model::Weights weights, std::int64_t page_count, std::int64_t context_length,
                 std::int64_t max_step_tokens, tensor::DType cache_type)
    : weights_(std::move(weights)),
      shape_(attention_shape(weights_.config)),
      cache_type_(cache_type),
      layer_page_bytes_(tensor::kv_page_bytes(shape_, cache_type)),
      page_bytes_(page_bytes(weights_.config, cache_type)),
      cache_(page_bytes_ * page_count),
      residual_(max_step_tokens * weights_.config.hidden_size),
      normed_(max_step_tokens * weights_.config.hidden_size),
      qkv_(max_step_tokens * (weights_.config.query_size() + 2 * weights_.config.kv_size())),
      attention_(max_step_tokens * weights_.config.query_size()),
      gate_up_(max_step_tokens * 2 * weights_.config.intermediate_size),
      middle_(max_step_tokens * weights_.config.intermediate_size) {
    prepare_matrices();
    const model::RopeFrequencies frequencies = model::rope_frequencies(weights_.config);
    rope_.extend(context_length, frequencies.inverse, frequencies.scale);
}

void Decoder::prepare_matrices() {
    bool needs_source = false;
    const auto prepare = [&](tensor::MatrixView& view) {
        tensor::LinearWeight weight(view);
        needs_source = needs_source || weight.needs_source();
        // Repacked: the file's copy need not stay in memory while the others follow.
        if (!weight.needs_source()) model::forget_matrix(weights_, view);
        view.data = nullptr;
        return weight;
    };
    embedding_ = prepare(weights_.embedding);
    if (!weights_.config.tie_embeddings) head_ = prepare(weights_.head);
    for (model::LayerWeights& layer : weights_.layers) {
        matrices_.push_back({prepare(layer.query), prepare(layer.key), prepare(layer.value),
                             prepare(layer.output), prepare(layer.gate), prepare(layer.up),
                             prepare(layer.down)});
    }
    // A model that is repacked throughout needs its file no more: one copy in memory, not two.
    if (!needs_source) weights_.owners.clear();
}

tensor::PagedKeyValues Decoder::layer_cache(std::int64_t layer) {
    return {cache_.data() + layer * layer_page_bytes_, page_bytes_, cache_type_};
}

void Decoder::copy_page(std::int32_t from, std::int32_t to) {
    std::copy_n(cache_.data() + from * page_bytes_, page_bytes_, cache_.data() + to * page_bytes_);
}

void Decoder::plan_rows(std::span<const Segment> segments) {
    positions_.clear();
    tokens_.clear();
    queries_.clear();
    logit_rows_.clear();
    for (const Segment& segment : segments) {
        const auto count = static_cast<std::int64_t>(segment.tokens.size());
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t position = segment.start + i;
            assert(position < rope_.count());
            assert(position / tensor::kv_page_tokens < static_cast<std::int64_t>(segment.pages.size()));
            if (i >= count - segment.logit_rows)
                logit_rows_.push_back(static_cast<std::int64_t>(positions_.size()));
            tokens_.push_back(segment.tokens[static_cast<std::size_t>(i)]);
            positions_.push_back(static_cast<std::int32_t>(position));
            queries_.push_back({segment.pages.data(), position + 1});
        }
    }
    each_rows(static_cast<std::int64_t>(tokens_.size()), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            embedding_.fetch_row(tokens_[static_cast<std::size_t>(row)],
                                 residual_.data() + row * weights_.config.hidden_size);
        }
    });
}

void Decoder::norm_rows(const std::vector<float>& weight, std::int64_t rows) {
    const std::int64_t hidden = weights_.config.hidden_size;
    each_rows(rows, [&](std::int64_t begin, std::int64_t end) {
        tensor::rms_norm(residual_.data() + begin * hidden, hidden, weight.data(),
                         weights_.config.rms_norm_eps, end - begin, hidden, normed_.data() + begin * hidden,
                         hidden, nullptr);
    });
}

std::span<float> Decoder::step(std::span<const Segment> segments) {
    const model::ModelConfig& config = weights_.config;
    plan_rows(segments);
    const auto rows = static_cast<std::int64_t>(positions_.size());
    for (std::int64_t layer = 0; layer < config.layer_count; ++layer) {
        attention_block(layer, rows);
        mlp_block(layer, rows);
    }
    add_hidden(segments);
    const auto wanted = static_cast<std::int64_t>(logit_rows_.size());
    logits_.resize(static_cast<std::size_t>(wanted * config.vocab_size));
    const std::int64_t hidden = config.hidden_size;
    for (std::int64_t i = 0; i < wanted; ++i) {
        tensor::rms_norm(residual_.data() + logit_rows_[static_cast<std::size_t>(i)] * hidden, hidden,
                         weights_.final_norm.data(), config.rms_norm_eps, 1, hidden,
                         normed_.data() + i * hidden, hidden, nullptr);
    }
    tensor::linear({&head(), logits_.data(), config.vocab_size}, normed_.data(), hidden, wanted);
    return logits_;
}

void Decoder::add_hidden(std::span<const Segment> segments) {
    const std::int64_t hidden = weights_.config.hidden_size;
    std::int64_t row = 0;
    for (const Segment& segment : segments) {
        const auto count = static_cast<std::int64_t>(segment.tokens.size());
        if (!segment.hidden_sum.empty()) {
            tensor::rms_norm(residual_.data() + row * hidden, hidden, weights_.final_norm.data(),
                             weights_.config.rms_norm_eps, count, hidden, normed_.data(), hidden, nullptr);
            for (std::int64_t i = 0; i < count * hidden; ++i) {
                segment.hidden_sum[static_cast<std::size_t>(i % hidden)] += normed_.data()[i];
            }
        }
        row += count;
    }
}

void Decoder::attention_block(std::int64_t layer, std::int64_t rows) {
    const model::ModelConfig& config = weights_.config;
    const model::LayerWeights& weights = weights_.layers[static_cast<std::size_t>(layer)];
    const LayerMatrices& matrices = matrices_[static_cast<std::size_t>(layer)];
    const std::int64_t hidden = config.hidden_size;
    const std::int64_t query_size = config.query_size();
    const std::int64_t kv_size = config.kv_size();
    const std::int64_t qkv_size = query_size + 2 * kv_size;
    float* qkv = qkv_.data();

    norm_rows(weights.attention_norm, rows);
    const tensor::LinearTask projections[] = {
        {&matrices.query, qkv, qkv_size, bias_or_null(weights.query_bias)},
        {&matrices.key, qkv + query_size, qkv_size, bias_or_null(weights.key_bias)},
        {&matrices.value, qkv + query_size + kv_size, qkv_size, bias_or_null(weights.value_bias)},
    };
    tensor::linear(projections, normed_.data(), hidden, rows);

    const tensor::PagedKeyValues cache = layer_cache(layer);
    each_rows(rows, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end && config.qk_norm; ++r) {
            float* row = qkv + r * qkv_size;
            norm_heads(row, weights.query_norm, config.head_count, config);
            norm_heads(row + query_size, weights.key_norm, config.kv_head_count, config);
        }
        // Query and key heads are neighbours in a row.
        tensor::rope(qkv + begin * qkv_size, qkv_size, end - begin, config.head_count + config.kv_head_count,
                     positions_.data() + begin, rope_, false);
        for (std::int64_t r = begin, next = 0; r < end; r = next) {
            const std::int32_t* pages = queries_[static_cast<std::size_t>(r)].pages;
            const std::int64_t position = positions_[static_cast<std::size_t>(r)];
            const auto follows = [&](std::int64_t other) {
                return queries_[static_cast<std::size_t>(other)].pages == pages &&
                       positions_[static_cast<std::size_t>(other)] == position + other - r;
            };
            next = r + 1;
            while (next < end && follows(next)) ++next;
            const float* keys = qkv + r * qkv_size + query_size;
            tensor::store_key_values(cache, shape_, pages, position, next - r, keys, keys + kv_size,
                                     qkv_size);
        }
    });
    tensor::paged_attention(cache, shape_, queries_, qkv, qkv_size, attention_.data(), query_size);
    tensor::linear({&matrices.output, residual_.data(), hidden, nullptr, true}, attention_.data(), query_size,
                   rows);
}

void Decoder::mlp_block(std::int64_t layer, std::int64_t rows) {
    const model::ModelConfig& config = weights_.config;
    const model::LayerWeights& weights = weights_.layers[static_cast<std::size_t>(layer)];
    const LayerMatrices& matrices = matrices_[static_cast<std::size_t>(layer)];
    const std::int64_t hidden = config.hidden_size;
    const std::int64_t intermediate = config.intermediate_size;
    norm_rows(weights.mlp_norm, rows);
    const tensor::LinearTask projections[] = {
        {&matrices.gate, gate_up_.data(), 2 * intermediate},
        {&matrices.up, gate_up_.data() + intermediate, 2 * intermediate},
    };
    tensor::linear(projections, normed_.data(), hidden, rows);
    each_rows(rows, [&](std::int64_t begin, std::int64_t end) {
        tensor::swiglu(gate_up_.data() + begin * 2 * intermediate, end - begin, intermediate,
                       middle_.data() + begin * intermediate);
    });
    tensor::linear({&matrices.down, residual_.data(), hidden, nullptr, true}, middle_.data(), intermediate,
                   rows);
}

}  // namespace retort::generate
