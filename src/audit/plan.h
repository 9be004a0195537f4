// An audit's plan: what will be tested, how, and which test counts, hashed before anything is looked at.
// Knows no model.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "audit/gather.h"
#include "base/result.h"

namespace retort::audit {

struct Plan {
    std::string created;           // UTC
    std::string suspect;           // a path, or an address
    std::string suspect_model;     // its name at the address
    std::string suspect_identity;  // hashes of what was looked at, as JSON text
    std::string teacher;           // whose tokens are marked: a path
    Access access = Access::weights;
    std::string primary;             // the test that decides, or `average_of_bets`
    std::vector<std::string> tests;  // all that are run, the primary one among them
    double alpha = 1e-3;
    std::string channel;
    std::string tokenizer;  // hash of the teacher's
    std::string reference;  // a path; empty: none
    std::string reference_identity;
    std::vector<std::string> controls;  // models that cannot have seen the answers: paths
    std::vector<std::string> control_identities;
    std::string commitment;  // SHA-256 of commitment.json
    std::string roots;       // SHA-256 of the published roots
    std::string leaves;      // Merkle root over all leaves of the escrow as it was opened
    std::int64_t records = 0;
    std::int64_t calibration_trials = 1000;
    GatherSettings settings;
};

// Instead of a test's name: all of them decide together, by the average of their e-values.
inline constexpr std::string_view average_of_bets = "average";

Json write_plan(const Plan& plan);
Result<Plan> parse_plan(const Json& json);
std::string plan_text(const Plan& plan);  // its bytes are what the hash is of

}  // namespace retort::audit
