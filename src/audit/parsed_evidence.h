// Evidence as its tests take it: what is in the JSON, checked one member at a time. Knows no p-value.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "audit/evidence.h"

namespace retort::audit {

// What the pairs and contexts are scored with.
struct Keyed {
    watermark::Scheme scheme;
    watermark::Subkey key;
};
Result<Keyed> parse_keyed(const Json& evidence);

// A window and what the suspect gives to the tokens after it, on `mass_grid`.
struct Context {
    watermark::Pair window;
    std::vector<std::int32_t> tokens;
    std::vector<std::int64_t> weights;
};
Result<std::vector<Context>> parse_contexts(const Json& evidence);
std::int64_t green_mass(std::span<const Context> contexts, const watermark::Subkey& key, double gamma);

struct CanaryScores {
    std::vector<double> scores;
    std::size_t planted = 0;
};
Result<std::vector<CanaryScores>> parse_canary_scores(const Json& evidence);
// Of candidate `which`: (those that score as much or more, itself among them) / all.
double rank_of(const CanaryScores& canary, std::size_t which);

}  // namespace retort::audit
