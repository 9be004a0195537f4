// The mix of answers with reasoning and of plain ones: what is too many of one kind goes, drawn by hash, so
// that the same records give the same mix whatever their order. Knows nothing of splits and files.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "curate/drop.h"
#include "data/record.h"

namespace retort::curate {

// In its own field, or between <think> and </think> in the answer; white space alone is none.
bool has_reasoning(const data::Record& record);

// How many of each kind stay when `mix` with reasoning stand beside one without: all of one kind, at least
// one of the other.
struct MixShare {
    std::int64_t reasoning = 0;
    std::int64_t plain = 0;
    bool operator==(const MixShare&) const = default;
};
MixShare mix_share(std::int64_t reasoning, std::int64_t plain, double mix);

// What goes, in the order of the records. An error when there is none of one kind.
Result<std::vector<std::optional<Drop>>> drops_by_mix(std::span<const data::Record> records, double mix);

}  // namespace retort::curate
