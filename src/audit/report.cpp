#include "audit/report.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "base/clock.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/strings.h"
#include "evaluate/report.h"

namespace retort::audit {

namespace fs = std::filesystem;

namespace {

// What the signature is over.
std::string signed_text(std::string_view json, std::string_view html) {
    return fmt::format("retort-audit-report-1 {} {}", base::sha256_hex(json), base::sha256_hex(html));
}

Result<Json> read_optional(const std::filesystem::path& file) {
    std::error_code error;
    if (!std::filesystem::exists(file, error)) return Json(nullptr);
    return formats::read_json_file(file);
}

// The pairs of a twin test are records of this bundle, each of them a twin.
Status check_twin_records(const Bundle& bundle, const Json& evidence) {
    for (const Json& pair : evidence["pairs"]) {
        RETORT_TRY(const std::int64_t index, formats::json_integer(pair, "record"));
        if (index < 0 || index >= static_cast<std::int64_t>(bundle.records.size()) ||
            bundle.records[static_cast<std::size_t>(index)].kind != escrow::RecordKind::twin) {
            return fail(ErrorCode::refused, "evidence: record {} is no twin of this escrow", index);
        }
    }
    return {};
}

Status check_canaries(const Bundle& bundle, const Json& evidence) {
    RETORT_TRY(const std::string text, base::read_file(bundle.folder / "canaries.json"));
    RETORT_TRY(const std::vector<escrow::Canary> canaries, escrow::parse_canaries(text, "canaries.json"));
    for (const Json& item : evidence["canaries"]) {
        RETORT_TRY(const std::string id, formats::json_string(item, "id"));
        RETORT_TRY(const std::int64_t planted, formats::json_integer(item, "planted"));
        const auto found =
            std::find_if(canaries.begin(), canaries.end(), [&](const auto& c) { return c.id == id; });
        if (found == canaries.end() || found->planted != planted) {
            return fail(ErrorCode::refused, "evidence: {} is not the canary that was committed to", id);
        }
    }
    return {};
}

Status check_belongs(const Bundle& bundle, const std::string& test, const Json& evidence) {
    RETORT_TRY(const std::string name, formats::json_string(evidence, "test"));
    if (name != test) return fail(ErrorCode::refused, "evidence of {} is of {}", test, name);
    if (test.starts_with("twin-")) return check_twin_records(bundle, evidence);
    if (test == "canary") return check_canaries(bundle, evidence);
    RETORT_TRY(const std::string tokenizer, formats::json_string(evidence, "tokenizer", ""));
    if (tokenizer != bundle.plan.tokenizer) {
        return fail(
            ErrorCode::refused,
            "evidence/{}.json: its tokenizer is not the one that the plan names: the marks are in the "
            "teacher's tokens",
            test);
    }
    return {};
}

constexpr std::string_view stopped_null =
    "a bettor starts with 1 and bets on each new pair that it is marked, at odds that are fair where the "
    "null "
    "hypothesis holds; p is 1 over the greatest wealth reached, and is right whenever the asking ends";

double log_average(const std::vector<TestResult>& results) {
    std::vector<double> log_e;
    for (const TestResult& result : results) log_e.push_back(result.log_e);
    return stats::log_mean_e_value(log_e.data(), static_cast<std::int64_t>(log_e.size()));
}

// ln of the p-value that decides; an e-value's is 1/e.
double deciding_log_p(const Plan& plan, const std::vector<TestResult>& results) {
    if (plan.primary == average_of_bets) return std::min(0.0, -log_average(results));
    for (const TestResult& result : results) {
        if (result.test == plan.primary) return result.log_p;
    }
    return 0;
}

std::string decision_of(const Plan& plan, const std::vector<TestResult>& results) {
    return deciding_log_p(plan, results) <= std::log(plan.alpha) ? "positive" : "not shown";
}

std::string what_was_carried(std::string_view primary) {
    if (primary.starts_with("twin-"))
        return "text that the owner served, and not the text that it drew alike and withheld";
    if (primary == "canary") return "the strings that the owner planted";
    if (primary == average_of_bets) return "text that the owner served or marked";
    return "text that carries the owner's key";
}

}  // namespace

std::string power_text(double logarithm) {
    const double log10 = logarithm / std::log(10.0);
    const double exponent = std::floor(log10);
    return fmt::format("{:.1f}e{:.0f}", std::pow(10, log10 - exponent), exponent);
}

std::string p_text(double log_p) {
    if (!std::isfinite(log_p)) return "0";
    return log_p > -4 * std::log(10.0) ? fmt::format("{:.4f}", std::exp(log_p)) : power_text(log_p);
}

std::string chance_text(double log_p) {
    if (!std::isfinite(log_p)) return "no chance at all";
    const double log10 = log_p / std::log(10.0);
    if (log10 >= -1) return fmt::format("about {:.0f} chances in a hundred", 100 * std::exp(log_p));
    auto zeros = static_cast<std::int64_t>(std::ceil(-log10));
    auto count = std::llround(std::pow(10, log10 + static_cast<double>(zeros)));
    if (count >= 10) {
        count = 1;
        --zeros;
    }
    constexpr auto ones = std::to_array<std::string_view>(
        {"one", "a thousand", "a million", "a billion", "a thousand billion", "a million billion"});
    constexpr auto many = std::to_array<std::string_view>(
        {"", "thousand", "million", "billion", "thousand billion", "million billion"});
    std::string among;
    const auto group = static_cast<std::size_t>(zeros / 3);
    if (group >= ones.size()) {
        among = fmt::format("a number written as 1 and {} zeros", zeros);
    } else if (zeros % 3 == 0) {
        among = ones[group];
    } else {
        among =
            fmt::format("{}{}{}", zeros % 3 == 1 ? "ten" : "a hundred", group == 0 ? "" : " ", many[group]);
    }
    return fmt::format("about {} chance{} in {}", count, count == 1 ? "" : "s", among);
}

namespace {

Result<std::vector<TestResult>> results_of(const Bundle& bundle,
                                           const std::function<fs::path(const std::string&)>& file_of) {
    std::vector<TestResult> out;
    for (const std::string& test : bundle.plan.tests) {
        auto evidence = formats::read_json_file(file_of(test));
        if (!evidence) {
            return fail(ErrorCode::not_found, "{}: no evidence; `retort audit run` gathers it",
                        file_of(test).string());
        }
        RETORT_CHECK(check_belongs(bundle, test, *evidence));
        RETORT_TRY(TestResult result, test_evidence(*evidence));
        out.push_back(std::move(result));
    }
    return out;
}

}  // namespace

Result<std::vector<TestResult>> compute_results(const Bundle& bundle) {
    return results_of(bundle, [&](const std::string& test) { return bundle.evidence_file(test); });
}

Result<std::vector<TestResult>> compute_control(const Bundle& bundle, std::size_t control) {
    return results_of(bundle, [&](const std::string& test) { return bundle.control_file(control, test); });
}

Result<SigningKey> load_or_create_signing_key(const std::filesystem::path& file) {
    if (sodium_init() < 0) return fail(ErrorCode::internal, "libsodium finds no source of randomness");
    std::array<std::uint8_t, 32> seed{};
    std::error_code error;
    if (!std::filesystem::exists(file, error)) {
        randombytes_buf(seed.data(), seed.size());
        RETORT_CHECK(base::write_file_atomic(file, base::to_hex(seed) + "\n"));
        std::filesystem::permissions(
            file, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write, error);
    }
    RETORT_TRY(const std::string text, base::read_file(file, 4096));
    if (const Status read = base::read_hex(base::trimmed(text), seed, "signing key"); !read) {
        return fail_from(read.error(), file.string());
    }
    SigningKey key;
    crypto_sign_ed25519_seed_keypair(key.public_key.data(), key.secret_key.data(), seed.data());
    return key;
}

Json report_json(const Bundle& bundle, const std::vector<TestResult>& results, const Calibration& calibration,
                 const Json& corroboration) {
    Json tests = Json::array();
    for (const TestResult& result : results) {
        Json test = write_result(result);
        const auto info = find_test(result.test);
        test["title"] = (*info)->title;
        test["hypothesis"] = (*info)->hypothesis;
        test["null"] = result.stopping ? std::string(stopped_null) : std::string((*info)->null);
        test["p"] = p_text(result.log_p);
        test["p_in_words"] = chance_text(result.log_p);
        test["primary"] = result.test == bundle.plan.primary;
        for (const TestCalibration& one : calibration.tests) {
            if (one.test == result.test) {
                test["calibration"] = {
                    {"trials", one.trials}, {"ks_distance", one.ks_distance}, {"ks_p", one.ks_p}};
            }
        }
        if (const auto bytes = base::read_file(bundle.evidence_file(result.test))) {
            test["evidence_sha256"] = base::sha256_hex(*bytes);
        }
        tests.push_back(std::move(test));
    }
    Json checks = Json::array();
    for (const CheckLine& check : calibration.checks)
        checks.push_back({{"check", check.what}, {"p", check.p}});
    const std::string decision = decision_of(bundle.plan, results);
    const double log_p = deciding_log_p(bundle.plan, results);
    const double average = log_average(results);
    return {
        {"format", "retort-audit-report-1"},
        {"issued", base::utc_now()},
        {"plan", write_plan(bundle.plan)},
        {"plan_sha256", bundle.plan_sha256},
        {"decision", decision},
        {"claim", decision == "positive"
                      ? fmt::format("The suspect was trained on {}.", what_was_carried(bundle.plan.primary))
                      : std::string("Nothing is shown. That is no evidence of innocence.")},
        {"p", p_text(log_p)},
        {"p_in_words", chance_text(log_p)},
        {"tests", std::move(tests)},
        {"average",
         {{"log_e", average},
          {"p", p_text(std::min(0.0, -average))},
          {"primary", bundle.plan.primary == average_of_bets}}},
        {"checks", std::move(checks)},
        {"corroboration", corroboration},
        {"escrow", {{"records", bundle.records.size()}, {"roots", bundle.roots.size()}}},
        {"caveats",
         {"A positive says that the suspect was trained on such text. It does not say who collected it: "
          "customers "
          "may have posted answers where others found them.",
          "A negative means nothing: paraphrase removes marks, and too little text leaves none.",
          "The p-value is how often such a result comes about where a suspect was not trained on the "
          "text. It is not the probability that this suspect was not: that depends on what else is known.",
          "What decides was named in the plan before the suspect was asked anything; the other p-values are "
          "shown as they are, not corrected for their number.",
          "What stands under corroboration has no valid null and decides nothing."}},
        {"reproduce", {"retort audit verify AUDIT"}}};
}

Status write_report(const Bundle& bundle, const SigningKey& key) {
    RETORT_TRY(const std::vector<TestResult> results, compute_results(bundle));
    RETORT_TRY(const Json stored, read_optional(bundle.folder / "calibration.json"));
    if (stored.is_null()) {
        return fail(ErrorCode::refused, "{}: not calibrated yet; run `retort audit calibrate {}` first",
                    bundle.folder.string(), bundle.folder.string());
    }
    // Computed anew: a file that says it holds proves nothing.
    RETORT_TRY(const Calibration calibration, calibrate(bundle));
    if (!calibration.holds()) {
        return fail(ErrorCode::refused, "the calibration fails, so that no report is issued: {}",
                    calibration.first_failure());
    }
    RETORT_TRY(const Json corroboration, read_optional(bundle.evidence_file("corroboration")));
    Json report = report_json(bundle, results, calibration, corroboration);
    report["controls"] = Json::array();
    for (std::size_t c = 0; c < bundle.plan.controls.size(); ++c) {
        RETORT_TRY(const std::vector<TestResult> found, compute_control(bundle, c));
        Json list = Json::array();
        for (const TestResult& result : found) {
            list.push_back(write_result(result));
            list.back()["p"] = p_text(result.log_p);
        }
        report["controls"].push_back({{"model", bundle.plan.controls[c]}, {"tests", std::move(list)}});
    }
    const std::string json = formats::write_json(report, 1) + "\n";
    const std::string html = report_html(report, calibration);
    const std::string text = signed_text(json, html);
    std::array<std::uint8_t, crypto_sign_BYTES> signature{};
    crypto_sign_ed25519_detached(signature.data(), nullptr,
                                 reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                                 key.secret_key.data());
    RETORT_CHECK(base::write_file_atomic(bundle.folder / "report.json", json));
    RETORT_CHECK(base::write_file_atomic(bundle.folder / "report.html", html));
    return write_json_file(bundle.folder / "report.sig", Json{{"format", "retort-audit-signature-1"},
                                                              {"signs", text},
                                                              {"public_key", base::to_hex(key.public_key)},
                                                              {"signature", base::to_hex(signature)}});
}

namespace {

bool agree(double said, double own) {
    return said == own || std::abs(said - own) <= 1e-9 * std::max(1.0, std::abs(own));
}

}  // namespace

Result<Verification> verify_bundle(const std::filesystem::path& folder) {
    RETORT_TRY(const Bundle bundle, read_bundle(folder));
    Verification out;
    RETORT_TRY(out.results, compute_results(bundle));
    RETORT_TRY(out.calibration, calibrate(bundle));
    if (!out.calibration.holds()) {
        return fail(ErrorCode::refused, "the calibration fails: {}", out.calibration.first_failure());
    }
    RETORT_TRY(const std::string json, base::read_file(folder / "report.json"));
    RETORT_TRY(const std::string html, base::read_file(folder / "report.html"));
    RETORT_TRY(const Json signature, formats::read_json_file(folder / "report.sig"));
    std::array<std::uint8_t, crypto_sign_PUBLICKEYBYTES> public_key{};
    std::array<std::uint8_t, crypto_sign_BYTES> bytes{};
    RETORT_TRY(out.public_key, formats::json_string(signature, "public_key"));
    RETORT_TRY(const std::string hex, formats::json_string(signature, "signature"));
    RETORT_CHECK(base::read_hex(out.public_key, public_key, "public key"));
    RETORT_CHECK(base::read_hex(hex, bytes, "signature"));
    const std::string text = signed_text(json, html);
    if (crypto_sign_ed25519_verify_detached(bytes.data(), reinterpret_cast<const unsigned char*>(text.data()),
                                            text.size(), public_key.data()) != 0) {
        return fail(ErrorCode::refused,
                    "report.sig does not sign this report: it was changed after it was signed");
    }
    RETORT_TRY(const Json report, formats::parse_json(json, "report.json"));
    RETORT_TRY(const std::string plan, formats::json_string(report, "plan_sha256"));
    if (plan != bundle.plan_sha256) return fail(ErrorCode::refused, "the report is of another plan");
    const Json* tests = formats::json_find(report, "tests");
    if (tests == nullptr || !tests->is_array() || tests->size() != out.results.size()) {
        return fail(ErrorCode::refused, "the report does not hold the tests that were planned");
    }
    for (std::size_t i = 0; i < out.results.size(); ++i) {
        RETORT_TRY(const double log_p, formats::json_number((*tests)[i], "log_p", -HUGE_VAL));
        RETORT_TRY(const double log_e, formats::json_number((*tests)[i], "log_e", HUGE_VAL));
        const TestResult& own = out.results[i];
        if (!agree(log_p, own.log_p) || !agree(log_e, own.log_e)) {
            return fail(ErrorCode::refused,
                        "{}: the report says ln p = {} and ln e = {}, the evidence gives {} and {}", own.test,
                        log_p, log_e, own.log_p, own.log_e);
        }
    }
    out.decision = decision_of(bundle.plan, out.results);
    RETORT_TRY(const std::string decision, formats::json_string(report, "decision"));
    if (decision != out.decision)
        return fail(ErrorCode::refused, "the report's decision is not what the plan says");
    return out;
}

}  // namespace retort::audit
