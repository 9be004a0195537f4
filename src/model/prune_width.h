// A smaller model out of a larger one by making it narrower (Minitron, Muralidharan et al. 2024): channels of
// the MLPs, heads of attention, channels of the residual stream, chosen by how much they do on given text.
// Better than leaving layers out at equal size, and slower to run. What is left is far from the teacher until
// it is trained.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/parameters.h"
#include "model/transformer.h"

namespace retort::model {

// Sizes to come down to; 0 keeps the model's own.
struct WidthTarget {
    std::int64_t intermediate = 0;  // channels of each MLP
    std::int64_t heads = 0;         // query heads; whole groups with their key and value go
    std::int64_t hidden = 0;        // channels of the residual stream

    [[nodiscard]] bool none() const { return intermediate == 0 && heads == 0 && hidden == 0; }
};

// Means over the text's tokens.
struct WidthImportance {
    // Of each layer and MLP channel c: |swiglu(gate, up)_c| · ‖column c of down‖, what it adds to the
    // residual stream.
    std::vector<std::vector<double>> intermediate;
    // Of each layer and group: over its query heads, the sum of ‖the head's result‖ · ‖its columns of
    // output‖.
    std::vector<std::vector<double>> groups;
    // Of each channel of the residual stream: the sum over all norms of its magnitude after the norm.
    std::vector<double> hidden;
};
WidthImportance width_importance(const Parameters& parameters, std::span<const TokenBatch> batches);

// What stays, ascending: in each layer for the MLP and the groups, one list for the residual stream.
struct WidthKept {
    std::vector<std::vector<std::int64_t>> intermediate;
    std::vector<std::vector<std::int64_t>> groups;
    std::vector<std::int64_t> hidden;
};
// The greatest of each; of equals, the first. A target larger than the model, or heads that do not fill their
// groups, is named.
Result<WidthKept> most_important_width(const WidthImportance& importance, const ModelConfig& config,
                                       const WidthTarget& target);

// A norm over fewer channels divides by another root mean square. For each norm in order (a layer's two, …,
// the final one): what its weights must be multiplied by, so that the kept channels come out as large as
// before on this text. √(hidden/kept) exactly where what goes was zero.
std::vector<double> norm_gains(const Parameters& parameters, std::span<const TokenBatch> batches,
                               std::span<const std::int64_t> hidden);

// The narrower model. gains: as norm_gains gives them; empty where the residual stream keeps its width.
Result<Parameters> keep_width(const Parameters& parameters, const WidthKept& kept,
                              std::span<const double> gains);

// All of the above in one.
Result<Parameters> prune_width(const Parameters& parameters, std::span<const TokenBatch> batches,
                               const WidthTarget& target);

}  // namespace retort::model
