// A logit cache as the trainer reads it: the kept entries of a batch of packed rows, in the order of their
// trained tokens. Verified once, when it is opened for a run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/logit_cache.h"
#include "data/packing.h"
#include "tensor/token_loss_sparse.h"
#include "train/objective.h"

namespace retort::train {

class CachedTargets {
  public:
    // Every example must be in it, with its very tokens; teacher_sha256 is checked unless it is empty.
    static Result<CachedTargets> open(const std::filesystem::path& folder,
                                      std::span<const data::Example> examples,
                                      std::string_view tokenizer_sha256, std::string_view teacher_sha256);

    // Objectives that what is kept can serve: draws give fkl at their own temperature; the largest entries
    // give any, at their own temperature, or at another when their own is 1.
    [[nodiscard]] Status check(const Objective& objective) const;

    // Of rows[indices[0]], rows[indices[1]], …; overwrites `entries`, which the result points into.
    [[nodiscard]] tensor::SparseTargets gather(std::span<const data::PackedBatch> rows,
                                               std::span<const std::int64_t> indices,
                                               data::TokenEntries& entries) const;

    [[nodiscard]] const data::CacheHeader& header() const { return cache_.header(); }
    [[nodiscard]] const data::CacheSummary& summary() const { return cache_.summary(); }
    [[nodiscard]] std::uint64_t hash() const { return cache_.hash(); }

  private:
    explicit CachedTargets(data::LogitCache cache) : cache_(std::move(cache)) {}
    struct Part {
        std::string_view bytes;
        std::int64_t tokens;
    };
    data::LogitCache cache_;
    std::vector<Part> parts_;  // of each example
};

}  // namespace retort::train
