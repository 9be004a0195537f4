#include "data/packing.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace retort::data {

namespace {

void append(PackedBatch& row, const Example& example, std::int32_t index) {
    const std::size_t length = example.tokens.size();
    row.example_indices.push_back(index);
    for (std::size_t i = 0; i < length; ++i) {
        const bool has_target = i + 1 < length && example.trained[i + 1] != 0;
        row.tokens.push_back(example.tokens[i]);
        row.positions.push_back(static_cast<std::int32_t>(i));
        row.targets.push_back(has_target ? example.tokens[i + 1] : -1);
        row.trained_tokens += has_target ? 1 : 0;
    }
    row.sequence_starts.push_back(static_cast<std::int32_t>(row.tokens.size()));
}

Status check(const Example& example, std::int64_t row_length) {
    if (example.tokens.empty()) {
        return fail(ErrorCode::invalid_argument, "record {}: it has no tokens", example.record_id);
    }
    if (example.trained.size() != example.tokens.size()) {
        return fail(ErrorCode::internal, "record {}: {} tokens but {} marks of the loss mask",
                    example.record_id, example.tokens.size(), example.trained.size());
    }
    if (static_cast<std::int64_t>(example.tokens.size()) > row_length) {
        return fail(ErrorCode::invalid_argument,
                    "record {}: {} tokens do not fit a row of {}; raise the row length or drop the record",
                    example.record_id, example.tokens.size(), row_length);
    }
    return {};
}

}  // namespace

Result<std::vector<PackedBatch>> pack(std::span<const Example> examples, std::int64_t row_length) {
    if (row_length < 1)
        return fail(ErrorCode::invalid_argument, "a row of {} tokens holds nothing", row_length);
    for (const Example& example : examples) RETORT_CHECK(check(example, row_length));

    std::vector<std::int32_t> order(examples.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        return examples[static_cast<std::size_t>(a)].tokens.size() >
               examples[static_cast<std::size_t>(b)].tokens.size();
    });

    std::vector<std::vector<std::int32_t>> members;
    std::set<std::pair<std::int64_t, std::size_t>> space;  // (free tokens, row)
    for (const std::int32_t index : order) {
        const auto length =
            static_cast<std::int64_t>(examples[static_cast<std::size_t>(index)].tokens.size());
        const auto fit = space.lower_bound({length, 0});
        if (fit == space.end()) {
            if (length < row_length) space.insert({row_length - length, members.size()});
            members.push_back({index});
            continue;
        }
        const auto [free, row] = *fit;
        space.erase(fit);
        members[row].push_back(index);
        if (free > length) space.insert({free - length, row});
    }

    std::vector<PackedBatch> rows(members.size());
    for (std::size_t i = 0; i < members.size(); ++i) {
        rows[i].sequence_starts.push_back(0);
        for (const std::int32_t index : members[i]) {
            append(rows[i], examples[static_cast<std::size_t>(index)], index);
        }
    }
    return rows;
}

}  // namespace retort::data
