#include "audit/lineage.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/parameters.h"
#include "tensor/gemm.h"
#include "text/text_model.h"

namespace retort::audit {

namespace {

constexpr std::int64_t most_tokens = 4096;

// Unit length, in place.
void normalise_rows(std::vector<float>& rows, std::int64_t count, std::int64_t width) {
    for (std::int64_t i = 0; i < count; ++i) {
        double square = 0;
        for (std::int64_t k = 0; k < width; ++k) {
            const double value = rows[static_cast<std::size_t>(i * width + k)];
            square += value * value;
        }
        const auto scale = static_cast<float>(square > 0 ? 1 / std::sqrt(square) : 0);
        for (std::int64_t k = 0; k < width; ++k) rows[static_cast<std::size_t>(i * width + k)] *= scale;
    }
}

std::vector<float> gate_rows(const model::Parameters& model, std::size_t layer) {
    const model::ModelConfig& config = model.layout.config;
    const float* from = model.values.data() + model.layout.layers[layer].gate_up;
    std::vector<float> rows(from, from + config.intermediate_size * config.hidden_size);
    normalise_rows(rows, config.intermediate_size, config.hidden_size);
    return rows;
}

// Units of `a` whose nearest unit of `b` (cosine of what the gate reads) has the same number.
std::int64_t fixed_points(const model::Parameters& a, const model::Parameters& b, std::size_t layer) {
    const std::int64_t units = a.layout.config.intermediate_size;
    const std::int64_t width = a.layout.config.hidden_size;
    const std::vector<float> left = gate_rows(a, layer);
    const std::vector<float> right = gate_rows(b, layer);
    std::vector<float> cosines(static_cast<std::size_t>(units * units));
    tensor::gemm(false, true, units, units, width, 1.0F, left.data(), width, right.data(), width, 0.0F,
                 cosines.data(), units);
    std::int64_t fixed = 0;
    for (std::int64_t i = 0; i < units; ++i) {
        const float* row = cosines.data() + i * units;
        if (std::max_element(row, row + units) - row == i) ++fixed;
    }
    return fixed;
}

std::vector<float> centred(const model::Parameters& model, const std::vector<std::int32_t>& tokens) {
    const std::int64_t width = model.layout.config.hidden_size;
    const float* table = model.values.data() + model.layout.embedding;
    std::vector<float> rows;
    std::vector<double> mean(static_cast<std::size_t>(width));
    for (const std::int32_t token : tokens) {
        rows.insert(rows.end(), table + token * width, table + (token + 1) * width);
        for (std::int64_t k = 0; k < width; ++k)
            mean[static_cast<std::size_t>(k)] += table[token * width + k];
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
        rows[i] -= static_cast<float>(mean[i % static_cast<std::size_t>(width)] /
                                      static_cast<double>(tokens.size()));
    }
    return rows;
}

// ‖xᵀy‖², Frobenius.
double cross_square(const std::vector<float>& x, std::int64_t x_width, const std::vector<float>& y,
                    std::int64_t y_width) {
    const auto count = static_cast<std::int64_t>(x.size()) / x_width;
    std::vector<float> product(static_cast<std::size_t>(x_width * y_width));
    tensor::gemm(true, false, x_width, y_width, count, 1.0F, x.data(), x_width, y.data(), y_width, 0.0F,
                 product.data(), y_width);
    double sum = 0;
    for (const float value : product) sum += static_cast<double>(value) * static_cast<double>(value);
    return sum;
}

void compare_embeddings(const text::TextModel& first, const model::Parameters& a,
                        const text::TextModel& second, const model::Parameters& b, Lineage& out) {
    std::vector<std::int32_t> left;
    std::vector<std::int32_t> right;
    for (std::int32_t id = 0; id < first.tokenizer.vocab_size() && out.shared_tokens < most_tokens; ++id) {
        const std::int32_t other = second.tokenizer.token_to_id(first.tokenizer.token_text(id));
        if (other < 0 || id >= a.layout.config.vocab_size || other >= b.layout.config.vocab_size) continue;
        left.push_back(id);
        right.push_back(other);
        ++out.shared_tokens;
    }
    if (out.shared_tokens < 2) return;
    const std::int64_t a_width = a.layout.config.hidden_size;
    const std::int64_t b_width = b.layout.config.hidden_size;
    const std::vector<float> x = centred(a, left);
    const std::vector<float> y = centred(b, right);
    const double scale =
        std::sqrt(cross_square(x, a_width, x, a_width) * cross_square(y, b_width, y, b_width));
    out.cka = scale > 0 ? cross_square(x, a_width, y, b_width) / scale : 0;
}

}  // namespace

// Trained apart, the second's units might as well have been numbered in any other order. The number X of
// units that find their own number then has E[C(X, k)] ≤ 1/k! in each layer, layers independently, so that
// P(Σ X ≥ K) ≤ Lᴷ/K! whatever the units are like.
Result<Lineage> compare_lineage(const std::filesystem::path& first, const std::filesystem::path& second) {
    Lineage out;
    RETORT_TRY(const text::TextModel first_text, text::load_text_model(first));
    RETORT_TRY(const text::TextModel second_text, text::load_text_model(second));
    RETORT_TRY(const model::Weights first_weights, model::load_weights(first));
    RETORT_TRY(const model::Weights second_weights, model::load_weights(second));
    const model::Parameters a = model::parameters_from(first_weights);
    const model::Parameters b = model::parameters_from(second_weights);
    compare_embeddings(first_text, a, second_text, b, out);
    const model::ModelConfig& left = a.layout.config;
    const model::ModelConfig& right = b.layout.config;
    if (left.hidden_size != right.hidden_size || left.intermediate_size != right.intermediate_size) {
        out.why_not =
            fmt::format("the widths differ ({} and {} hidden, {} and {} in the MLP)", left.hidden_size,
                        right.hidden_size, left.intermediate_size, right.intermediate_size);
        return out;
    }
    out.has_permutation_test = true;
    out.layers = static_cast<std::int64_t>(std::min(a.layout.layers.size(), b.layout.layers.size()));
    for (std::int64_t layer = 0; layer < out.layers; ++layer) {
        out.matched += fixed_points(a, b, static_cast<std::size_t>(layer));
    }
    const auto k = static_cast<double>(out.matched);
    out.log_p = std::min(0.0, k * std::log(static_cast<double>(out.layers)) - std::lgamma(k + 1));
    out.p = std::exp(out.log_p);
    return out;
}

formats::Json write_lineage(const Lineage& lineage) {
    formats::Json json{{"claim", "lineage of weights, not distillation"},
                       {"shared_tokens", lineage.shared_tokens},
                       {"cka", lineage.cka}};
    if (lineage.has_permutation_test) {
        json["layers"] = lineage.layers;
        json["matched"] = lineage.matched;
        json["log_p"] = lineage.log_p;
    } else {
        json["permutation_test"] = lineage.why_not;
    }
    return json;
}

}  // namespace retort::audit
