// What a test saw, as JSON (docs/formats/audit.md), and what follows from it. A p-value is a function of the
// evidence alone, so that whoever holds the bundle computes the same. Knows no model, no file and no network.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "audit/suspect.h"
#include "base/result.h"
#include "formats/json.h"
#include "stats/e_values.h"
#include "stats/estimate.h"
#include "watermark/detect.h"

namespace retort::audit {

using formats::Json;

// A test whose null distribution the owner's own randomness gives.
struct TestInfo {
    std::string_view name;
    std::string_view title;
    Access access = Access::text;  // that it needs, at least
    std::string_view hypothesis;   // the null, in words
    std::string_view null;         // the distribution that p comes from
};
std::span<const TestInfo> all_tests();
Result<const TestInfo*> find_test(std::string_view name);

struct TestResult {
    std::string test;
    std::int64_t n = 0;
    double statistic = 0;
    double expected = 0;  // of the statistic under the null
    double log_p = 0;
    double log_p_beyond = 0;  // of a larger statistic: differs where the statistic is discrete
    double log_e = 0;         // wealth of a bettor against the null, who started with 1
    std::string effect;       // what is estimated, in words
    stats::Estimate estimate;
    double null_value = 0;  // of the estimate
    bool stopping = false;  // asked until it was enough: p is the inverse of a bettor's greatest wealth
};

// What a bettor sees of a pair, in [0, 1], and who bets against the null: pairs in the order in which they
// were found, so that the wealth is a martingale whenever the asking ends.
double bet_outcome(const watermark::Scheme& scheme, const watermark::Subkey& key,
                   const watermark::Pair& pair);
stats::BettingMartingale bettor_against(const watermark::Scheme& scheme);
stats::BettingMartingale bet_on_pairs(const watermark::Scheme& scheme, const watermark::Subkey& key,
                                      std::span<const watermark::Pair> pairs);

// What he wins on the evidence as it stands, in its own order: an e-value, whose mean under the null is 1 at
// most. Averages of e-values are e-values, whatever the tests have in common.
Result<double> log_e_value(const Json& evidence);

// Refuses evidence that a test must not be run on: a pair counted twice, another test's members, numbers that
// are none.
Result<TestResult> test_evidence(const Json& evidence);

// p-values of the same evidence under wrong keys, wrong coins or decoys; uniform on [0, 1] where the null is
// right (discrete ones made so by random numbers). Does not look for pairs counted twice: that is what it
// finds.
Result<std::vector<double>> null_p_values(const Json& evidence, std::int64_t trials, std::uint64_t seed);

// Differences of a twin test, served minus withheld.
Result<std::vector<double>> twin_differences(const Json& evidence);

Json write_scheme(const watermark::Scheme& scheme);
Result<watermark::Scheme> parse_scheme(const Json& json);
Json write_result(const TestResult& result);
Json write_pairs(std::span<const watermark::Pair> pairs);
Result<std::vector<watermark::Pair>> parse_pairs(const Json& evidence);

// The grid that probabilities are rounded to for the green mass; rounding knows no key.
inline constexpr std::int64_t mass_grid = 1024;

}  // namespace retort::audit
