// The gate: a model against a policy, an item each, with what was measured, its interval, the bound and the
// evidence. The model is asked through functions that the caller brings. Knows no file format of models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/record.h"
#include "formats/json.h"
#include "release/policy.h"
#include "release/provenance.h"
#include "stats/estimate.h"

namespace retort::release {

struct Asked {
    std::vector<data::Message> messages;  // a conversation; or, when there is none,
    std::string text;                     // text to be gone on with
};
struct Asking {
    double temperature = 0;
    std::int64_t max_tokens = 256;
    std::uint64_t seed = 1;  // of the first; the next ones follow
};
// One position of a known answer: the chance of the model's first choice, and whether it was right.
struct Prediction {
    double confidence = 0;
    bool right = false;
};

struct ModelUnderTest {
    std::filesystem::path path;
    std::function<Result<std::vector<std::string>>(std::span<const Asked>, const Asking&)> answer;
    std::function<std::vector<std::int32_t>(std::string_view)> encode;
    std::function<std::string(std::span<const std::int32_t>)> decode;
    std::function<Result<std::vector<Prediction>>(const data::Record&)> predict;
};

struct Item {
    std::string id;    // "extraction", "evaluation/maths"
    std::string what;  // in words
    stats::Estimate measured;
    bool has_interval = false;
    std::string shown;  // "3 of 100", "0.041"
    std::string bound;
    bool passed = false;
    formats::Json evidence;
};

struct CheckReport {
    std::filesystem::path model;
    std::string model_sha256;
    std::string policy_sha256;
    std::string date;
    std::uint64_t seed = 0;
    std::vector<Item> items;
    Provenance provenance;
    [[nodiscard]] bool passed() const;
};

struct CheckOptions {
    std::filesystem::path scratch;  // a folder for the index of the works
    std::function<void(std::string_view item)> on_item;
};
Result<CheckReport> check(const ModelUnderTest& model, const Policy& policy, const CheckOptions& options);

formats::Json check_json(const CheckReport& report);
std::string check_text(const CheckReport& report);

// Parts of it, for tests.
Item extraction_item(const ExtractionItem& wanted, std::int64_t extracted, std::int64_t tried,
                     formats::Json evidence);
// Addresses of mail, numbers of telephones, of cards (Luhn) and accounts (IBAN) in a text.
std::vector<std::string> personal_data_in(std::string_view text);
double expected_calibration_error(std::span<const Prediction> predictions);

Result<Item> check_extraction(const ModelUnderTest& model, const ExtractionItem& wanted, std::uint64_t seed,
                              const std::filesystem::path& scratch, std::vector<std::string>& said);

}  // namespace retort::release
