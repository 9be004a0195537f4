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
#include "escrow/plant.h"
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
    std::uint64_t seed = 1;                              // of the first; the next ones follow
    std::function<void(std::int64_t done)> on_progress;  // may be empty
};
// An answer that was sampled with the plant's mark, as serving marks it.
struct MarkedAnswer {
    std::vector<std::int32_t> prompt;
    std::vector<std::int32_t> answer;
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
    std::function<Result<std::vector<MarkedAnswer>>(std::span<const Asked>, const Asking&,
                                                    const escrow::Plant&, const std::string& channel)>
        answer_marked;
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
    std::filesystem::path scratch;                       // a folder for the index of the works
    std::function<void(std::string_view item)> on_item;  // is done
    // Of a long item, as it goes.
    std::function<void(std::string_view item, std::int64_t done, std::int64_t total)> on_progress;
};
Result<CheckReport> check(const ModelUnderTest& model, const Policy& policy, const CheckOptions& options);

formats::Json check_json(const CheckReport& report);
std::string check_text(const CheckReport& report);

// Parts of it, for tests.
Item extraction_item(const ExtractionItem& wanted, std::int64_t extracted, std::int64_t tried,
                     formats::Json evidence);
double expected_calibration_error(std::span<const Prediction> predictions);

Result<Item> check_extraction(const ModelUnderTest& model, const ExtractionItem& wanted, std::uint64_t seed,
                              const CheckOptions& options, std::vector<std::string>& said);
Result<Item> check_planted(const ModelUnderTest& model, const PlantedItem& wanted, std::uint64_t seed,
                           const CheckOptions& options);

}  // namespace retort::release
