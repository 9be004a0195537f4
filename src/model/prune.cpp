#include "model/prune.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace retort::model {

namespace {

double cosine(const float* a, const float* b, std::int64_t size) {
    double ab = 0;
    double aa = 0;
    double bb = 0;
    for (std::int64_t i = 0; i < size; ++i) {
        ab += static_cast<double>(a[i]) * b[i];
        aa += static_cast<double>(a[i]) * a[i];
        bb += static_cast<double>(b[i]) * b[i];
    }
    return ab / std::sqrt(std::max(aa * bb, 1e-30));
}

Status check_keep(std::int64_t layer_count, std::int64_t keep) {
    if (keep < 1 || keep > layer_count) {
        return fail(ErrorCode::invalid_argument, "cannot keep {} layers of a model that has {}", keep,
                    layer_count);
    }
    return {};
}

}  // namespace

std::vector<double> block_influence(const Parameters& parameters, std::span<const TokenBatch> batches,
                                    std::int64_t run) {
    std::size_t longest = 0;
    for (const TokenBatch& batch : batches) longest = std::max(longest, batch.tokens.size());
    Transformer transformer(parameters.layout, static_cast<std::int64_t>(longest), {true, true});
    const std::int64_t hidden = parameters.layout.config.hidden_size;
    const auto layers = static_cast<std::int64_t>(parameters.layout.layers.size());
    std::vector<double> turned(static_cast<std::size_t>(std::max<std::int64_t>(0, layers - run + 1)), 0.0);
    std::int64_t positions = 0;
    for (const TokenBatch& batch : batches) {
        transformer.forward({parameters.values.data(), nullptr}, batch);
        const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
        positions += tokens;
        for (std::size_t l = 0; l < turned.size(); ++l) {
            const float* before = transformer.layer_input(static_cast<std::int64_t>(l)).data();
            const float* after = transformer.layer_input(static_cast<std::int64_t>(l) + run).data();
            for (std::int64_t t = 0; t < tokens; ++t) {
                turned[l] += 1.0 - cosine(before + t * hidden, after + t * hidden, hidden);
            }
        }
    }
    for (double& value : turned) value /= static_cast<double>(std::max<std::int64_t>(1, positions));
    return turned;
}

Result<std::vector<std::int64_t>> most_influential_layers(std::span<const double> influence,
                                                          std::int64_t keep) {
    const auto count = static_cast<std::int64_t>(influence.size());
    RETORT_CHECK(check_keep(count, keep));
    std::vector<std::int64_t> order(influence.size());
    std::iota(order.begin(), order.end(), 0);
    const auto rank = [&](std::int64_t layer) {
        const bool at_an_end = layer == 0 || layer == count - 1;
        return std::pair(at_an_end ? 0 : 1, -influence[static_cast<std::size_t>(layer)]);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return rank(a) < rank(b); });
    order.resize(static_cast<std::size_t>(keep));
    std::sort(order.begin(), order.end());
    return order;
}

Result<std::vector<std::int64_t>> layers_around_a_run(std::span<const double> influence,
                                                      std::int64_t layer_count, std::int64_t keep) {
    RETORT_CHECK(check_keep(layer_count, keep));
    if (keep < 2 && layer_count > 1) {
        return fail(ErrorCode::invalid_argument,
                    "cannot leave out a run of {} layers of {}: the first and the last stay; keep 2 or more",
                    layer_count - keep, layer_count);
    }
    const std::int64_t run = layer_count - keep;
    std::int64_t from = 1;
    for (std::int64_t l = 1; run > 0 && l + run < layer_count; ++l) {
        if (influence[static_cast<std::size_t>(l)] < influence[static_cast<std::size_t>(from)]) from = l;
    }
    std::vector<std::int64_t> layers;
    for (std::int64_t l = 0; l < layer_count; ++l) {
        if (l < from || l >= from + run) layers.push_back(l);
    }
    return layers;
}

Result<std::vector<std::int64_t>> evenly_spread_layers(std::int64_t layer_count, std::int64_t keep) {
    RETORT_CHECK(check_keep(layer_count, keep));
    std::vector<std::int64_t> layers;
    for (std::int64_t i = 0; i < keep; ++i) {
        layers.push_back(keep == 1 ? 0 : (i * (layer_count - 1) + (keep - 1) / 2) / (keep - 1));
    }
    return layers;
}

Result<Parameters> keep_layers(const Parameters& parameters, std::span<const std::int64_t> layers) {
    const ParameterLayout& from = parameters.layout;
    for (const std::int64_t layer : layers) {
        if (layer < 0 || layer >= from.config.layer_count) {
            return fail(ErrorCode::invalid_argument, "layer {} does not exist: the model has layers 0 to {}",
                        layer, from.config.layer_count - 1);
        }
    }
    if (layers.empty()) return fail(ErrorCode::invalid_argument, "a model needs at least one layer");
    ModelConfig config = from.config;
    config.layer_count = static_cast<std::int64_t>(layers.size());
    Parameters smaller = make_parameters(config);
    // Tensors come in the same order in both: outside the layers, and within each of them.
    const auto copy = [&](const ParameterTensor& source, const ParameterTensor& target) {
        std::copy_n(parameters.values.data() + source.offset, source.count,
                    smaller.values.data() + target.offset);
    };
    const std::size_t per_layer = [&] {
        std::size_t count = 0;
        while (from.tensors[1 + count].name.starts_with("model.layers.0.")) ++count;
        return count;
    }();
    copy(from.tensors[0], smaller.layout.tensors[0]);
    for (std::size_t l = 0; l < layers.size(); ++l) {
        for (std::size_t i = 0; i < per_layer; ++i) {
            copy(from.tensors[1 + static_cast<std::size_t>(layers[l]) * per_layer + i],
                 smaller.layout.tensors[1 + l * per_layer + i]);
        }
    }
    const std::size_t tail = from.tensors.size() - (1 + from.layers.size() * per_layer);
    for (std::size_t i = 0; i < tail; ++i) {
        copy(from.tensors[from.tensors.size() - tail + i],
             smaller.layout.tensors[smaller.layout.tensors.size() - tail + i]);
    }
    return smaller;
}

}  // namespace retort::model
