// Whether one model's weights descend from another's (a claim of lineage, not of distillation): hidden units
// have no order of their own, so that two models trained apart agree on none; and how alike their embeddings
// are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "formats/json.h"

namespace retort::audit {

struct Lineage {
    bool has_permutation_test = false;
    std::string why_not;
    std::int64_t layers = 0;
    std::int64_t matched = 0;  // Σ over layers of hidden units that match best the one of their own number
    double p = 1;  // exact: trained apart, a matching's fixed points are those of a random permutation
    double log_p = 0;
    std::int64_t shared_tokens = 0;
    double cka = -1;  // linear, of the embeddings of tokens that both have; below 0: none
};

// Zeng et al. 2025 and Nikolic et al. 2025 test the same independence by other statistics.
Result<Lineage> compare_lineage(const std::filesystem::path& first, const std::filesystem::path& second);
formats::Json write_lineage(const Lineage& lineage);

}  // namespace retort::audit
