#include "model/prune_width.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/activation.h"
#include "tensor/norm.h"

namespace retort::model {

namespace {

using Indices = std::vector<std::int64_t>;

std::int64_t longest_batch(std::span<const TokenBatch> batches) {
    std::size_t longest = 0;
    for (const TokenBatch& batch : batches) longest = std::max(longest, batch.tokens.size());
    return static_cast<std::int64_t>(longest);
}

double norm_of(const float* values, std::int64_t count, std::int64_t stride = 1) {
    double square = 0;
    for (std::int64_t i = 0; i < count; ++i)
        square += static_cast<double>(values[i * stride]) * values[i * stride];
    return std::sqrt(square);
}

// ‖column c‖ of a matrix (rows, cols).
std::vector<double> column_norms(const float* matrix, std::int64_t rows, std::int64_t cols) {
    std::vector<double> squares(static_cast<std::size_t>(cols), 0.0);
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < cols; ++c) {
            const double value = matrix[r * cols + c];
            squares[static_cast<std::size_t>(c)] += value * value;
        }
    }
    for (double& square : squares) square = std::sqrt(square);
    return squares;
}

// The residual stream before each norm: calls use(which norm, its weights, rows (tokens, hidden)).
template <typename Use>
void each_norm(const Parameters& parameters, const Transformer& transformer, std::int64_t tokens,
               const Use& use) {
    const ParameterLayout& layout = parameters.layout;
    const float* values = parameters.values.data();
    for (std::size_t l = 0; l < layout.layers.size(); ++l) {
        const auto layer = static_cast<std::int64_t>(l);
        use(2 * l, values + layout.layers[l].attention_norm, transformer.layer_input(layer).data());
        use(2 * l + 1, values + layout.layers[l].mlp_norm,
            transformer.layer_view(layer, tokens).middle.data());
    }
    const auto last = static_cast<std::int64_t>(layout.layers.size());
    use(2 * layout.layers.size(), values + layout.final_norm, transformer.layer_input(last).data());
}

// Runs the model over each batch: calls use(transformer, tokens). Returns all tokens.
template <typename Use>
std::int64_t each_batch(const Parameters& parameters, std::span<const TokenBatch> batches, const Use& use) {
    Transformer transformer(parameters.layout, longest_batch(batches), {true, false});
    std::int64_t all = 0;
    for (const TokenBatch& batch : batches) {
        transformer.forward({parameters.values.data(), nullptr}, batch);
        const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
        all += tokens;
        use(transformer, tokens);
    }
    return all;
}

Result<Indices> greatest(std::span<const double> importance, std::int64_t keep, std::string_view what) {
    const auto count = static_cast<std::int64_t>(importance.size());
    if (keep == 0) keep = count;
    if (keep < 1 || keep > count) {
        return fail(ErrorCode::invalid_argument, "cannot keep {} {} of a model that has {}", keep, what,
                    count);
    }
    Indices order(importance.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        return importance[static_cast<std::size_t>(a)] > importance[static_cast<std::size_t>(b)];
    });
    order.resize(static_cast<std::size_t>(keep));
    std::sort(order.begin(), order.end());
    return order;
}

Indices all_of(std::int64_t count) {
    Indices all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), 0);
    return all;
}

// `block` rows or columns for each index.
Indices expand(const Indices& indices, std::int64_t block) {
    Indices out;
    for (const std::int64_t index : indices)
        for (std::int64_t i = 0; i < block; ++i) out.push_back(index * block + i);
    return out;
}

// to (rows kept, columns kept) out of from (…, cols).
float* gather(const float* from, std::int64_t cols, const Indices& rows, const Indices& columns, float* to) {
    for (const std::int64_t r : rows)
        for (const std::int64_t c : columns) *to++ = from[r * cols + c];
    return to;
}

}  // namespace

WidthImportance width_importance(const Parameters& parameters, std::span<const TokenBatch> batches) {
    const ModelConfig& config = parameters.layout.config;
    const auto layers = static_cast<std::size_t>(config.layer_count);
    const std::int64_t wide = config.intermediate_size;
    const std::int64_t group = config.head_count / config.kv_head_count;
    WidthImportance sums;
    sums.intermediate.assign(layers, std::vector<double>(static_cast<std::size_t>(wide), 0.0));
    sums.groups.assign(layers, std::vector<double>(static_cast<std::size_t>(config.kv_head_count), 0.0));
    sums.hidden.assign(static_cast<std::size_t>(config.hidden_size), 0.0);

    std::vector<std::vector<double>> output_norms;  // of each layer: of a head's columns of output
    for (const LayerOffsets& at : parameters.layout.layers) {
        const auto columns =
            column_norms(parameters.values.data() + at.output, config.hidden_size, config.query_size());
        std::vector<double> heads;
        for (std::int64_t h = 0; h < config.head_count; ++h) {
            double square = 0;
            for (std::int64_t d = 0; d < config.head_dim; ++d)
                square += std::pow(columns[static_cast<std::size_t>(h * config.head_dim + d)], 2);
            heads.push_back(std::sqrt(square));
        }
        output_norms.push_back(std::move(heads));
    }
    std::vector<float> activated;
    std::vector<float> normed;
    const std::int64_t all =
        each_batch(parameters, batches, [&](const Transformer& transformer, std::int64_t tokens) {
            activated.resize(static_cast<std::size_t>(tokens * wide));
            normed.resize(static_cast<std::size_t>(tokens * config.hidden_size));
            for (std::size_t l = 0; l < layers; ++l) {
                const Transformer::LayerView view =
                    transformer.layer_view(static_cast<std::int64_t>(l), tokens);
                tensor::swiglu(view.gate_up.data(), tokens, wide, activated.data());
                for (std::int64_t t = 0; t < tokens; ++t) {
                    for (std::int64_t c = 0; c < wide; ++c)
                        sums.intermediate[l][static_cast<std::size_t>(c)] +=
                            std::abs(activated[static_cast<std::size_t>(t * wide + c)]);
                    for (std::int64_t h = 0; h < config.head_count; ++h) {
                        const float* head =
                            view.attention.data() + t * config.query_size() + h * config.head_dim;
                        sums.groups[l][static_cast<std::size_t>(h / group)] +=
                            norm_of(head, config.head_dim) * output_norms[l][static_cast<std::size_t>(h)];
                    }
                }
            }
            each_norm(parameters, transformer, tokens,
                      [&](std::size_t, const float* weight, const float* rows) {
                          tensor::rms_norm(rows, config.hidden_size, weight, config.rms_norm_eps, tokens,
                                           config.hidden_size, normed.data(), config.hidden_size, nullptr);
                          for (std::int64_t t = 0; t < tokens; ++t)
                              for (std::int64_t i = 0; i < config.hidden_size; ++i)
                                  sums.hidden[static_cast<std::size_t>(i)] +=
                                      std::abs(normed[static_cast<std::size_t>(t * config.hidden_size + i)]);
                      });
        });
    const auto count = static_cast<double>(std::max<std::int64_t>(1, all));
    for (std::size_t l = 0; l < layers; ++l) {
        const auto down = column_norms(parameters.values.data() + parameters.layout.layers[l].down,
                                       config.hidden_size, wide);
        for (std::size_t c = 0; c < down.size(); ++c) sums.intermediate[l][c] *= down[c] / count;
        for (double& value : sums.groups[l]) value /= count;
    }
    for (double& value : sums.hidden) value /= count;
    return sums;
}

Result<WidthKept> most_important_width(const WidthImportance& importance, const ModelConfig& config,
                                       const WidthTarget& target) {
    const std::int64_t group = config.head_count / config.kv_head_count;
    if (target.heads % group != 0) {
        return fail(
            ErrorCode::invalid_argument,
            "cannot keep {} heads: {} of them share a key and a value, so it must be a multiple of {}",
            target.heads, group, group);
    }
    WidthKept kept;
    for (std::size_t l = 0; l < importance.intermediate.size(); ++l) {
        RETORT_TRY(Indices channels,
                   greatest(importance.intermediate[l], target.intermediate, "MLP channels"));
        kept.intermediate.push_back(std::move(channels));
        RETORT_TRY(Indices groups, greatest(importance.groups[l], target.heads / group, "groups of heads"));
        kept.groups.push_back(std::move(groups));
    }
    RETORT_TRY(kept.hidden, greatest(importance.hidden, target.hidden, "hidden channels"));
    return kept;
}

std::vector<double> norm_gains(const Parameters& parameters, std::span<const TokenBatch> batches,
                               std::span<const std::int64_t> hidden) {
    const std::int64_t size = parameters.layout.config.hidden_size;
    const double eps = static_cast<double>(parameters.layout.config.rms_norm_eps);
    std::vector<double> gains(2 * parameters.layout.layers.size() + 1, 0.0);
    const std::int64_t all =
        each_batch(parameters, batches, [&](const Transformer& transformer, std::int64_t tokens) {
            each_norm(parameters, transformer, tokens,
                      [&](std::size_t which, const float*, const float* rows) {
                          for (std::int64_t t = 0; t < tokens; ++t) {
                              const float* row = rows + t * size;
                              double left = 0;
                              for (const std::int64_t i : hidden)
                                  left += static_cast<double>(row[i]) * row[i];
                              const double whole =
                                  std::pow(norm_of(row, size), 2) + eps * static_cast<double>(size);
                              gains[which] += std::sqrt((left + eps * static_cast<double>(size)) / whole);
                          }
                      });
        });
    const double wider = std::sqrt(static_cast<double>(size) / static_cast<double>(hidden.size()));
    for (double& gain : gains) gain *= wider / static_cast<double>(std::max<std::int64_t>(1, all));
    return gains;
}

Result<Parameters> keep_width(const Parameters& parameters, const WidthKept& kept,
                              std::span<const double> gains) {
    const ParameterLayout& from = parameters.layout;
    const ModelConfig& old = from.config;
    const std::int64_t group = old.head_count / old.kv_head_count;
    ModelConfig config = old;
    config.intermediate_size = static_cast<std::int64_t>(kept.intermediate.front().size());
    config.kv_head_count = static_cast<std::int64_t>(kept.groups.front().size());
    config.head_count = config.kv_head_count * group;
    config.hidden_size = static_cast<std::int64_t>(kept.hidden.size());
    // The mean square is over fewer channels, so what is added to it grows alike.
    config.rms_norm_eps *=
        static_cast<float>(static_cast<double>(old.hidden_size) / static_cast<double>(config.hidden_size));
    RETORT_CHECK(validate(config));
    Parameters smaller = make_parameters(config);
    const float* source = parameters.values.data();
    float* target = smaller.values.data();
    const Indices one = {0};
    const Indices vocabulary = all_of(old.vocab_size);
    const Indices& hidden = kept.hidden;
    std::size_t norms = 0;
    const auto copy_norm = [&](std::int64_t at, std::int64_t to) {
        const auto gain = static_cast<float>(gains.empty() ? 1.0 : gains[norms]);
        ++norms;
        gather(source + at, old.hidden_size, one, hidden, target + to);
        for (std::int64_t i = 0; i < config.hidden_size; ++i) target[to + i] *= gain;
    };
    gather(source + from.embedding, old.hidden_size, vocabulary, hidden, target + smaller.layout.embedding);
    for (std::size_t l = 0; l < from.layers.size(); ++l) {
        const LayerOffsets& at = from.layers[l];
        const LayerOffsets& to = smaller.layout.layers[l];
        const Indices queries = expand(kept.groups[l], group * old.head_dim);
        const Indices keys = expand(kept.groups[l], old.head_dim);
        const Indices& channels = kept.intermediate[l];
        copy_norm(at.attention_norm, to.attention_norm);
        const std::int64_t key_at = old.query_size();
        const std::int64_t value_at = old.query_size() + old.kv_size();
        float* qkv = gather(source + at.qkv, old.hidden_size, queries, hidden, target + to.qkv);
        qkv = gather(source + at.qkv + key_at * old.hidden_size, old.hidden_size, keys, hidden, qkv);
        gather(source + at.qkv + value_at * old.hidden_size, old.hidden_size, keys, hidden, qkv);
        if (at.qkv_bias >= 0) {
            float* bias = gather(source + at.qkv_bias, 1, queries, one, target + to.qkv_bias);
            bias = gather(source + at.qkv_bias + key_at, 1, keys, one, bias);
            gather(source + at.qkv_bias + value_at, 1, keys, one, bias);
        }
        if (at.query_norm >= 0) {
            std::copy_n(source + at.query_norm, old.head_dim, target + to.query_norm);
            std::copy_n(source + at.key_norm, old.head_dim, target + to.key_norm);
        }
        gather(source + at.output, old.query_size(), hidden, queries, target + to.output);
        copy_norm(at.mlp_norm, to.mlp_norm);
        float* up = gather(source + at.gate_up, old.hidden_size, channels, hidden, target + to.gate_up);
        gather(source + at.gate_up + old.intermediate_size * old.hidden_size, old.hidden_size, channels,
               hidden, up);
        gather(source + at.down, old.intermediate_size, hidden, channels, target + to.down);
    }
    copy_norm(from.final_norm, smaller.layout.final_norm);
    if (!old.tie_embeddings)
        gather(source + from.head, old.hidden_size, vocabulary, hidden, target + smaller.layout.head);
    return smaller;
}

Result<Parameters> prune_width(const Parameters& parameters, std::span<const TokenBatch> batches,
                               const WidthTarget& target) {
    if (batches.empty())
        return fail(ErrorCode::invalid_argument, "there is no text to measure importance on");
    RETORT_TRY(const WidthKept kept,
               most_important_width(width_importance(parameters, batches), parameters.layout.config, target));
    const bool same = static_cast<std::int64_t>(kept.hidden.size()) == parameters.layout.config.hidden_size;
    const std::vector<double> gains =
        same ? std::vector<double>{} : norm_gains(parameters, batches, kept.hidden);
    return keep_width(parameters, kept, gains);
}

}  // namespace retort::model
