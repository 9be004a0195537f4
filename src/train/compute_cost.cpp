#include "train/compute_cost.h"

namespace retort::train {

void TokenCounts::operator+=(const TokenCounts& other) {
    tokens += other.tokens;
    scored += other.scored;
    pairs += other.pairs;
}

TokenCounts count_tokens(std::span<const data::PackedBatch> rows) {
    TokenCounts counts;
    for (const data::PackedBatch& row : rows) {
        counts.tokens += static_cast<double>(row.tokens.size());
        counts.scored += static_cast<double>(row.trained_tokens);
        for (std::size_t s = 0; s + 1 < row.sequence_starts.size(); ++s) {
            const double length = row.sequence_starts[s + 1] - row.sequence_starts[s];
            counts.pairs += length * (length + 1) / 2;
        }
    }
    return counts;
}

TokenCounts count_continuation(std::int64_t before, std::int64_t tokens, std::int64_t scored) {
    const auto first = static_cast<double>(before);
    const auto count = static_cast<double>(tokens);
    return {count, static_cast<double>(scored), count * first + count * (count + 1) / 2};
}

double matrix_parameters(const model::ModelConfig& config) {
    const double hidden = static_cast<double>(config.hidden_size);
    const double layer = hidden * static_cast<double>(2 * config.query_size() + 2 * config.kv_size()) +
                         3 * hidden * static_cast<double>(config.intermediate_size);
    return layer * static_cast<double>(config.layer_count);
}

double forward_flop(const model::ModelConfig& config, const TokenCounts& counts) {
    const double head = static_cast<double>(config.vocab_size * config.hidden_size);
    const double attention = 2 * static_cast<double>(config.query_size() * config.layer_count);
    return 2 * (matrix_parameters(config) * counts.tokens + head * counts.scored + attention * counts.pairs);
}

}  // namespace retort::train
