#include <algorithm>
#include <cmath>

#include "audit/bundle.h"
#include "base/hash.h"
#include "stats/distributions.h"
#include "stats/exact_tests.h"

namespace retort::audit {

namespace {

// Twice the smaller tail, at most 1.
double two_sided(double log_upper, double log_lower) {
    return std::min(1.0, 2 * std::exp(std::min(log_upper, log_lower)));
}

CheckLine line(std::string what, double p, std::string detail) {
    return {std::move(what), p, p >= calibration_floor, std::move(detail)};
}

}  // namespace

bool Calibration::holds() const {
    return std::all_of(tests.begin(), tests.end(), [](const auto& test) { return test.holds; }) &&
           std::all_of(checks.begin(), checks.end(), [](const auto& check) { return check.holds; });
}

std::string Calibration::first_failure() const {
    for (const CheckLine& check : checks) {
        if (!check.holds) return fmt::format("{}: {}", check.what, check.detail);
    }
    for (const TestCalibration& test : tests) {
        if (!test.holds) {
            return fmt::format(
                "{}: {} p-values under wrong keys, coins or decoys are not uniform (KS {:.3f}, p {:.1e})",
                test.test, test.trials, test.ks_distance, test.ks_p);
        }
    }
    return {};
}

Result<TestCalibration> calibrate_evidence(const Json& evidence, std::int64_t trials, std::uint64_t seed) {
    TestCalibration out;
    RETORT_TRY(out.test, formats::json_string(evidence, "test"));
    RETORT_TRY(out.p_values, null_p_values(evidence, trials, seed));
    out.trials = static_cast<std::int64_t>(out.p_values.size());
    const stats::UniformityTest uniform = stats::kolmogorov_uniformity(out.p_values);
    out.ks_distance = uniform.distance;
    out.ks_p = uniform.p;
    out.holds = out.trials >= trials && out.ks_p >= calibration_floor;
    return out;
}

std::vector<CheckLine> check_coins(const Bundle& bundle) {
    std::int64_t twins = 0;
    std::int64_t heads = 0;
    std::int64_t wrong = 0;
    std::vector<double> lengths;
    std::vector<std::uint64_t> indices;
    for (const escrow::Record& record : bundle.records) {
        if (record.kind != escrow::RecordKind::twin) continue;
        ++twins;
        heads += record.served;
        if (bundle.coins && bundle.coins->at(record.index).served != record.served) ++wrong;
        indices.push_back(record.index);
        lengths.push_back(static_cast<double>(record.served_answer().size()) -
                          static_cast<double>(record.withheld_answer().size()));
    }
    if (twins == 0) return {};
    std::sort(indices.begin(), indices.end());
    const bool repeated = std::adjacent_find(indices.begin(), indices.end()) != indices.end();
    std::vector<CheckLine> out;
    out.push_back({"twins follow the committed coins", 1, wrong == 0,
                   fmt::format("{} of {} twins were not served by their coin", wrong, twins)});
    out.push_back({"no coin is used twice", 1, !repeated, "two twins share a coin"});
    out.push_back(line("the coins are fair",
                       two_sided(stats::log_binomial_tail(heads, twins, 0.5),
                                 stats::log_binomial_tail(twins - heads, twins, 0.5)),
                       fmt::format("{} of {} coins fell on the second answer", heads, twins)));
    const stats::SignFlipNull null(lengths);
    std::vector<double> mirrored = lengths;
    for (double& length : mirrored) length = -length;
    out.push_back(line("served and withheld answers are of one length",
                       two_sided(null.log_p(lengths), null.log_p(mirrored)),
                       "one side is longer than chance allows"));
    return out;
}

Result<Calibration> calibrate(const Bundle& bundle) {
    Calibration out;
    out.checks = check_coins(bundle);
    for (const std::string& test : bundle.plan.tests) {
        RETORT_TRY(const Json evidence, formats::read_json_file(bundle.evidence_file(test)));
        // The seed is the plan's hash: it was fixed before the evidence.
        const std::uint64_t seed = base::xxh3_64(bundle.plan_sha256 + test);
        RETORT_TRY(TestCalibration one, calibrate_evidence(evidence, bundle.plan.calibration_trials, seed));
        out.tests.push_back(std::move(one));
    }
    for (std::size_t c = 0; c < bundle.plan.controls.size(); ++c) {
        double least = 0;
        for (const std::string& test : bundle.plan.tests) {
            RETORT_TRY(const Json evidence, formats::read_json_file(bundle.control_file(c, test)));
            RETORT_TRY(const TestResult found, test_evidence(evidence));
            least = std::min(least, found.log_p);
        }
        out.checks.push_back(
            line(fmt::format("the tests do not find control model {}", c + 1),
                 std::min(1.0, std::exp(least) * static_cast<double>(bundle.plan.tests.size())),
                 fmt::format("{} cannot have seen the answers, and a test gives it ln p {:.1f}",
                             bundle.plan.controls[c], least)));
    }
    const std::filesystem::path control = bundle.evidence_file("control");
    std::error_code error;
    if (std::filesystem::exists(control, error)) {
        RETORT_TRY(const Json evidence, formats::read_json_file(control));
        RETORT_TRY(const TestResult found, test_evidence(evidence));
        out.checks.push_back(
            {"the marked answers are found with this key and tokenizer", std::exp(found.log_p),
             found.log_p <= control_log_p,
             fmt::format("ln p is {:.1f} over {} tokens, where {:.1f} is wanted: the key or the "
                         "tokenizer is not what marked them, or there are too few",
                         found.log_p, found.n, control_log_p)});
    }
    return out;
}

Json write_calibration(const Calibration& calibration) {
    Json tests = Json::array();
    for (const TestCalibration& test : calibration.tests) {
        tests.push_back({{"test", test.test},
                         {"trials", test.trials},
                         {"ks_distance", test.ks_distance},
                         {"ks_p", test.ks_p},
                         {"holds", test.holds},
                         {"p_values", test.p_values}});
    }
    Json checks = Json::array();
    for (const CheckLine& check : calibration.checks) {
        checks.push_back(
            {{"check", check.what}, {"p", check.p}, {"holds", check.holds}, {"detail", check.detail}});
    }
    return {{"format", "retort-audit-calibration-1"},
            {"floor", calibration_floor},
            {"holds", calibration.holds()},
            {"tests", std::move(tests)},
            {"checks", std::move(checks)}};
}

}  // namespace retort::audit
