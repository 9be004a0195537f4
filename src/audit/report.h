// What an audit found, for a reader who was not there: one JSON file and one page, signed. Issued only where
// the calibration holds. Knows no model.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "audit/bundle.h"

namespace retort::audit {

// p-values of everything that has evidence, in the plan's order, and checks that the evidence belongs to the
// bundle: twins' scores to records, the scheme and the tokenizer to the plan.
Result<std::vector<TestResult>> compute_results(const Bundle& bundle);
// The same of the plan's control model number `control`.
Result<std::vector<TestResult>> compute_control(const Bundle& bundle, std::size_t control);

// Ed25519: 32 bytes of seed as hexadecimal digits in a file that only its owner reads, made if absent.
struct SigningKey {
    std::array<std::uint8_t, 32> public_key{};
    std::array<std::uint8_t, 64> secret_key{};
};
Result<SigningKey> load_or_create_signing_key(const std::filesystem::path& file);

// report.json, report.html and report.sig; refuses, naming the check, where the calibration fails.
Status write_report(const Bundle& bundle, const SigningKey& key);

struct Verification {
    std::vector<TestResult> results;
    Calibration calibration;
    std::string public_key;  // that signed it
    std::string decision;
};
// Recomputes everything from the bundle and compares: chain of hashes, coins, p-values, calibration,
// signature.
Result<Verification> verify_bundle(const std::filesystem::path& folder);

Json report_json(const Bundle& bundle, const std::vector<TestResult>& results, const Calibration& calibration,
                 const Json& corroboration);
std::string report_html(const Json& report, const Calibration& calibration);
// e to this as "1.2e34", also where a double would not hold it.
std::string power_text(double logarithm);
// "1.2e-34", also where a double would underflow.
std::string p_text(double log_p);
// The same in words: "about 3 chances in ten thousand billion".
std::string chance_text(double log_p);

}  // namespace retort::audit
