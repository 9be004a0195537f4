// Several tests at once: p-values adjusted so that each may be compared with α as if it were alone.
#pragma once

#include <span>
#include <vector>

namespace retort::stats {

// All in the order given, at most 1.
std::vector<double> adjust_bonferroni(std::span<const double> p);
// Step-down (Holm 1979): never less powerful than Bonferroni's, under any dependence.
std::vector<double> adjust_holm(std::span<const double> p);
// Step-up (Benjamini & Hochberg 1995): bounds the false discovery rate for independent tests.
std::vector<double> adjust_benjamini_hochberg(std::span<const double> p);

}  // namespace retort::stats
