#include "audit/evidence.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "audit/parsed_evidence.h"
#include "base/random.h"
#include "stats/distributions.h"
#include "stats/exact_tests.h"
#include "stats/proportion.h"

namespace retort::audit {

namespace {

constexpr auto tests = std::to_array<TestInfo>({
    {"twin-likelihood", "Twins: likelihood of what was served against what was withheld", Access::logprobs,
     "the suspect never saw the served answers: it prefers them to the withheld ones no more than a fair "
     "coin does",
     "all sign flips of the paired differences, counted exactly"},
    {"twin-continuation", "Twins: the suspect's own answers against what was served and what was withheld",
     Access::text, "the suspect never saw the served answers: what it writes is as near to the withheld ones",
     "all sign flips of the paired differences, counted exactly"},
    {"radioactivity-closed", "Radioactivity of what the suspect writes", Access::text,
     "the key is independent of the suspect: the marks of what it writes are chance",
     "the exact tail of the scheme's score over distinct windows and tokens"},
    {"radioactivity-open", "Radioactivity of what the suspect would write next", Access::logprobs,
     "the key is independent of the suspect: the marks of its first choices are chance",
     "the exact tail of the scheme's score over distinct windows and tokens"},
    {"canary", "Canaries among decoys", Access::text,
     "no canary's string was seen: the planted one is as likely as any decoy drawn alike",
     "ranks among the decoys, multiplied over canaries (Fisher)"},
    {"green-mass", "Green mass of the suspect's whole distribution", Access::weights,
     "the key is independent of the suspect: green tokens get as much probability as their share",
     "the exact tail of the weighted sum of green tokens"},
});

watermark::Subkey wrong_key(base::RandomStream& random) {
    watermark::Subkey key;
    for (std::uint8_t& byte : key.bytes) byte = static_cast<std::uint8_t>(random.next_u64() >> 32U);
    return key;
}

// Uniform under the null also where the statistic is discrete: between P(> s) and P(≥ s).
double uniform_p(double log_p, double log_p_beyond, double draw) {
    const double beyond = log_p_beyond < log_p ? std::exp(log_p_beyond) : std::exp(log_p);
    return beyond + draw * (std::exp(log_p) - beyond);
}
bool is_discrete(double log_p, double log_p_beyond) {
    return log_p_beyond < log_p;
}

stats::Estimate mean_interval(std::span<const double> values) {
    const auto n = static_cast<double>(values.size());
    double sum = 0;
    double squares = 0;
    for (const double value : values) sum += value;
    const double mean = n > 0 ? sum / n : 0;
    for (const double value : values) squares += (value - mean) * (value - mean);
    const double error = n > 1 ? 1.959964 * std::sqrt(squares / (n - 1) / n) : HUGE_VAL;
    return {mean, mean - error, mean + error};
}

// --- twins

Result<TestResult> test_twins(const Json& evidence, const std::vector<double>& differences) {
    TestResult out;
    std::set<std::int64_t> seen;
    for (const Json& pair : evidence["pairs"]) {
        RETORT_TRY(const std::int64_t record, formats::json_integer(pair, "record"));
        if (!seen.insert(record).second) {
            return fail(ErrorCode::refused, "evidence: record {} stands among the twins twice", record);
        }
    }
    const stats::SignFlipNull null(differences);
    out.n = static_cast<std::int64_t>(differences.size());
    for (const double difference : differences) out.statistic += difference;
    out.log_p = null.log_p(differences);
    out.log_p_beyond = null.log_p_beyond(differences);
    out.estimate = mean_interval(differences);
    out.effect = "mean difference, served minus withheld";
    return out;
}

std::vector<double> null_twins(const std::vector<double>& differences, std::int64_t trials,
                               base::RandomStream& random) {
    const stats::SignFlipNull null(differences);
    std::vector<double> out;
    std::vector<double> flipped = differences;
    for (std::int64_t t = 0; t < trials; ++t) {
        for (std::size_t i = 0; i < differences.size(); ++i) {
            flipped[i] = (random.next_u64() >> 63U) != 0 ? differences[i] : -differences[i];
        }
        out.push_back(uniform_p(null.log_p(flipped), null.log_p_beyond(flipped), random.uniform()));
    }
    return out;
}

// --- radioactivity

Result<TestResult> test_pairs(const Json& evidence) {
    RETORT_TRY(const Keyed keyed, parse_keyed(evidence));
    RETORT_TRY(const std::vector<watermark::Pair> pairs, parse_pairs(evidence));
    std::set<watermark::Pair> seen;
    for (const watermark::Pair& pair : pairs) {
        if (static_cast<std::int64_t>(pair.size()) != keyed.scheme.window + 1) {
            return fail(ErrorCode::format, "evidence: a pair of {} tokens, where the window is {}",
                        pair.size(), keyed.scheme.window);
        }
        if (!seen.insert(pair).second) {
            return fail(
                ErrorCode::refused,
                "evidence: window and token {} are counted twice: repeated ones are not independent, and the "
                "p-value would be wrong. Count each once",
                fmt::join(pair, " "));
        }
    }
    const watermark::Detection found = watermark::detect(keyed.scheme, keyed.key, pairs);
    TestResult out;
    out.n = found.pairs;
    out.statistic = found.score;
    out.expected = found.expected;
    out.log_p = found.log_p;
    out.log_p_beyond = found.log_p_beyond;
    const double n = std::max<double>(1, static_cast<double>(found.pairs));
    if (keyed.scheme.kind == watermark::SchemeKind::red_green) {
        out.effect = "share of green tokens";
        out.estimate = stats::clopper_pearson(static_cast<std::int64_t>(found.score), found.pairs);
        out.null_value = keyed.scheme.gamma;
    } else {
        std::vector<double> scores;
        for (const watermark::Pair& pair : pairs) {
            scores.push_back(watermark::pair_score(keyed.scheme, keyed.key, pair));
        }
        out.effect = "mean score of a token";
        out.estimate = mean_interval(scores);
        out.null_value = found.expected / n;
    }
    const Json* stopping = formats::json_find(evidence, "stopping");
    if (stopping != nullptr && stopping->is_boolean() && stopping->get<bool>()) {
        out.stopping = true;
        out.log_p = bet_on_pairs(keyed.scheme, keyed.key, pairs).log_p();
        out.log_p_beyond = out.log_p;
        out.effect += " (asked until it was enough, which the interval does not allow for)";
    }
    return out;
}

Result<std::vector<double>> null_pairs(const Json& evidence, std::int64_t trials,
                                       base::RandomStream& random) {
    RETORT_TRY(const Keyed keyed, parse_keyed(evidence));
    RETORT_TRY(const std::vector<watermark::Pair> pairs, parse_pairs(evidence));
    std::vector<double> out;
    for (std::int64_t t = 0; t < trials; ++t) {
        const watermark::Detection found = watermark::detect(keyed.scheme, wrong_key(random), pairs);
        const double draw = random.uniform();
        out.push_back(is_discrete(found.log_p, found.log_p_beyond)
                          ? uniform_p(found.log_p, found.log_p_beyond, draw)
                          : std::exp(found.log_p));
    }
    return out;
}

// --- green mass

std::vector<stats::LatticeTerm> mass_terms(const std::vector<Context>& contexts) {
    std::map<std::int64_t, std::int64_t> counts;
    for (const Context& context : contexts) {
        for (const std::int64_t weight : context.weights) ++counts[weight];
    }
    std::vector<stats::LatticeTerm> terms;
    for (const auto& [weight, count] : counts) terms.push_back({weight, count});
    return terms;
}

Result<TestResult> test_mass(const Json& evidence) {
    RETORT_TRY(const Keyed keyed, parse_keyed(evidence));
    if (keyed.scheme.kind != watermark::SchemeKind::red_green) {
        return fail(ErrorCode::unsupported, "green mass is a test of the red-green scheme");
    }
    RETORT_TRY(const std::vector<Context> contexts, parse_contexts(evidence));
    std::set<watermark::Pair> seen;
    double total = 0;
    double squares = 0;
    for (const Context& context : contexts) {
        if (!seen.insert(context.window).second) {
            return fail(ErrorCode::refused, "evidence: window {} is counted twice",
                        fmt::join(context.window, " "));
        }
        for (const std::int64_t weight : context.weights) {
            total += static_cast<double>(weight);
            squares += static_cast<double>(weight) * static_cast<double>(weight);
        }
    }
    const std::vector<stats::LatticeTerm> terms = mass_terms(contexts);
    const double gamma = keyed.scheme.gamma;
    const std::int64_t sum = green_mass(contexts, keyed.key, gamma);
    TestResult out;
    out.n = static_cast<std::int64_t>(contexts.size());
    out.statistic = static_cast<double>(sum);
    out.expected = gamma * total;
    out.log_p = terms.empty() ? 0 : stats::log_lattice_tail(terms, gamma, sum);
    out.log_p_beyond = terms.empty() ? 0 : stats::log_lattice_tail(terms, gamma, sum + 1);
    out.effect = "green share of the probability";
    const double share = total > 0 ? out.statistic / total : 0;
    const double error = total > 0 ? 1.959964 * std::sqrt(gamma * (1 - gamma) * squares) / total : HUGE_VAL;
    out.estimate = {share, share - error, share + error};
    out.null_value = gamma;
    return out;
}

Result<std::vector<double>> null_mass(const Json& evidence, std::int64_t trials, base::RandomStream& random) {
    RETORT_TRY(const Keyed keyed, parse_keyed(evidence));
    RETORT_TRY(const std::vector<Context> contexts, parse_contexts(evidence));
    std::vector<double> out;
    if (contexts.empty()) return out;
    const stats::LatticeNull null(mass_terms(contexts), keyed.scheme.gamma);
    for (std::int64_t t = 0; t < trials; ++t) {
        const std::int64_t sum = green_mass(contexts, wrong_key(random), keyed.scheme.gamma);
        out.push_back(uniform_p(null.log_p(sum), null.log_p(sum + 1), random.uniform()));
    }
    return out;
}

// --- canaries

Result<TestResult> test_canaries(const Json& evidence) {
    RETORT_TRY(const std::vector<CanaryScores> canaries, parse_canary_scores(evidence));
    TestResult out;
    out.n = static_cast<std::int64_t>(canaries.size());
    std::vector<double> ranks;
    for (const CanaryScores& canary : canaries) {
        ranks.push_back(rank_of(canary, canary.planted));
        out.statistic -= std::log(ranks.back());
    }
    out.expected = static_cast<double>(out.n);
    if (!canaries.empty()) out.log_p = stats::log_upper_gamma(static_cast<double>(out.n), out.statistic);
    out.log_p_beyond = out.log_p;
    out.effect = "mean rank of the planted string (0 first, 1 last)";
    out.estimate = mean_interval(ranks);
    out.null_value = 0.5;
    return out;
}

// Ranks are discrete: each is spread over its step, which makes the product's p uniform.
Result<std::vector<double>> null_canaries(const Json& evidence, std::int64_t trials,
                                          base::RandomStream& random) {
    RETORT_TRY(const std::vector<CanaryScores> canaries, parse_canary_scores(evidence));
    std::vector<double> out;
    for (std::int64_t t = 0; t < trials && !canaries.empty(); ++t) {
        double sum = 0;
        for (const CanaryScores& canary : canaries) {
            const std::size_t which = random.below(canary.scores.size());
            std::size_t better = 0;
            std::size_t equal = 0;
            for (const double score : canary.scores) {
                better += score > canary.scores[which] ? 1 : 0;
                equal += score == canary.scores[which] ? 1 : 0;
            }
            const double rank =
                (static_cast<double>(better) + (1 - random.uniform()) * static_cast<double>(equal)) /
                static_cast<double>(canary.scores.size());
            sum -= std::log(rank);
        }
        out.push_back(std::exp(stats::log_upper_gamma(static_cast<double>(canaries.size()), sum)));
    }
    return out;
}

}  // namespace

std::span<const TestInfo> all_tests() {
    return tests;
}

Result<const TestInfo*> find_test(std::string_view name) {
    std::string known;
    for (const TestInfo& test : tests) {
        if (test.name == name) return &test;
        known += (known.empty() ? "" : ", ") + std::string(test.name);
    }
    return fail(ErrorCode::invalid_argument, "test \"{}\" is not known; there are {}", name, known);
}

Result<TestResult> test_evidence(const Json& evidence) {
    RETORT_TRY(const std::string name, formats::json_string(evidence, "test"));
    RETORT_CHECK(find_test(name));
    Result<TestResult> out = fail(ErrorCode::internal, "no such test");
    if (name.starts_with("twin-")) {
        RETORT_TRY(const std::vector<double> differences, twin_differences(evidence));
        out = test_twins(evidence, differences);
    } else if (name.starts_with("radioactivity-")) {
        out = test_pairs(evidence);
    } else if (name == "canary") {
        out = test_canaries(evidence);
    } else {
        out = test_mass(evidence);
    }
    if (!out) return out;
    out->test = name;
    RETORT_TRY(out->log_e, log_e_value(evidence));
    return out;
}

Result<std::vector<double>> null_p_values(const Json& evidence, std::int64_t trials, std::uint64_t seed) {
    RETORT_TRY(const std::string name, formats::json_string(evidence, "test"));
    base::RandomStream random(seed, 0x6e756c6cU);
    if (name.starts_with("twin-")) {
        RETORT_TRY(const std::vector<double> differences, twin_differences(evidence));
        return null_twins(differences, trials, random);
    }
    if (name.starts_with("radioactivity-")) return null_pairs(evidence, trials, random);
    if (name == "canary") return null_canaries(evidence, trials, random);
    return null_mass(evidence, trials, random);
}

Json write_scheme(const watermark::Scheme& scheme) {
    return {{"scheme", watermark::kind_name(scheme.kind)},
            {"window", scheme.window},
            {"gamma", scheme.gamma},
            {"delta", scheme.delta},
            {"layers", scheme.layers}};
}

Json write_result(const TestResult& result) {
    Json out{{"test", result.test},
             {"n", result.n},
             {"statistic", result.statistic},
             {"expected", result.expected},
             {"log_p", result.log_p},
             {"log_e", result.log_e},
             {"effect", result.effect},
             {"estimate", {result.estimate.value, result.estimate.low, result.estimate.high}},
             {"null_value", result.null_value}};
    if (result.stopping) out["stopping"] = true;
    return out;
}

Json write_pairs(std::span<const watermark::Pair> pairs) {
    Json out = Json::array();
    for (const watermark::Pair& pair : pairs) out.push_back(pair);
    return out;
}

}  // namespace retort::audit
