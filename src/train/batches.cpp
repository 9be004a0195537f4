#include "train/batches.h"

#include <numeric>

#include "base/random.h"

namespace retort::train {

namespace {
std::vector<std::int64_t> permutation(std::int64_t count, std::uint64_t seed, std::int64_t epoch) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    base::RandomStream random(seed, static_cast<std::uint64_t>(epoch));
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    return order;
}
}  // namespace

std::vector<std::int64_t> rows_of_step(std::int64_t row_count, std::int64_t rows_per_step, std::uint64_t seed,
                                       std::int64_t step) {
    std::vector<std::int64_t> rows;
    std::vector<std::int64_t> order;
    std::int64_t order_epoch = -1;
    for (std::int64_t i = step * rows_per_step; i < (step + 1) * rows_per_step; ++i) {
        const std::int64_t epoch = i / row_count;
        if (epoch != order_epoch) {
            order = permutation(row_count, seed, epoch);
            order_epoch = epoch;
        }
        rows.push_back(order[static_cast<std::size_t>(i % row_count)]);
    }
    return rows;
}

Batch join_rows(std::span<const data::PackedBatch> rows, std::span<const std::int64_t> indices) {
    Batch batch;
    for (const std::int64_t index : indices) {
        const data::PackedBatch& row = rows[static_cast<std::size_t>(index)];
        const auto base = static_cast<std::int32_t>(batch.tokens.size());
        batch.tokens.insert(batch.tokens.end(), row.tokens.begin(), row.tokens.end());
        batch.targets.insert(batch.targets.end(), row.targets.begin(), row.targets.end());
        batch.positions.insert(batch.positions.end(), row.positions.begin(), row.positions.end());
        for (std::size_t s = 0; s + 1 < row.sequence_starts.size(); ++s) {
            batch.sequence_starts.push_back(base + row.sequence_starts[s]);
        }
        batch.trained_tokens += row.trained_tokens;
    }
    batch.sequence_starts.push_back(static_cast<std::int32_t>(batch.tokens.size()));
    return batch;
}

}  // namespace retort::train
