// The folder of an audit (docs/formats/audit.md): the plan, the opened records that it rests on, the
// evidence, its calibration and the report, with what ties them to each other and to what was published.
// Knows no model.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "audit/evidence.h"
#include "audit/plan.h"
#include "escrow/plant.h"
#include "escrow/vault.h"

namespace retort::audit {

struct Bundle {
    std::filesystem::path folder;
    Plan plan;
    std::string plan_sha256;
    Json commitment;
    std::optional<escrow::CoinStream> coins;
    std::vector<escrow::Record> records;
    std::vector<base::Sha256> leaves;
    std::vector<escrow::DayRoot> roots;

    [[nodiscard]] std::filesystem::path evidence_file(std::string_view test) const {
        return folder / "evidence" / (std::string(test) + ".json");
    }
    // The same test on the plan's control model number `control`.
    [[nodiscard]] std::filesystem::path control_file(std::size_t control, std::string_view test) const {
        return evidence_file(fmt::format("model-{}.{}", control, test));
    }
};

// What is planted, opened with the owner's key, and put beside the plan. `seed`: the coin stream's, which the
// bundle discloses.
Status write_bundle(const std::filesystem::path& folder, const Plan& plan, const escrow::Plant& plant,
                    const escrow::OpenedVault& vault, const std::vector<escrow::Canary>& canaries);
// Reads all of it and checks that records give the leaves, leaves the roots, and the plan the rest.
Result<Bundle> read_bundle(const std::filesystem::path& folder);

Status write_json_file(const std::filesystem::path& file, const Json& json);

struct CheckLine {
    std::string what;
    double p = 1;  // of the check where it is a test
    bool holds = true;
    std::string detail;
};

struct TestCalibration {
    std::string test;
    std::int64_t trials = 0;
    double ks_distance = 0;
    double ks_p = 1;
    std::vector<double> p_values;
    bool holds = true;
};

struct Calibration {
    std::vector<TestCalibration> tests;
    std::vector<CheckLine> checks;
    [[nodiscard]] bool holds() const;
    [[nodiscard]] std::string first_failure() const;
};

// Wrong keys, coins and decoys for each test that has evidence; whether the coins are the committed ones and
// fair; whether the marked answers themselves are found.
Result<Calibration> calibrate(const Bundle& bundle);
// The same without the folder: for each evidence its p-values under the wrong null.
Result<TestCalibration> calibrate_evidence(const Json& evidence, std::int64_t trials, std::uint64_t seed);
std::vector<CheckLine> check_coins(const Bundle& bundle);

Json write_calibration(const Calibration& calibration);

// Below it a calibration fails: one honest audit in a thousand for each check.
inline constexpr double calibration_floor = 1e-3;
// The marked answers themselves must be found at this.
inline constexpr double control_log_p = -13.8;  // ln 1e-6

}  // namespace retort::audit
