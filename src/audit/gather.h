// Asks the suspect what a test needs, and writes it down as evidence. What is asked does not depend on what
// came before; only where the plan says so does a bettor's wealth end the asking.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "audit/evidence.h"
#include "audit/suspect.h"
#include "escrow/canaries.h"
#include "escrow/records.h"
#include "text/text_model.h"

namespace retort::audit {

// How much is asked; part of the plan.
struct GatherSettings {
    std::int64_t max_twins = 4000;
    std::int64_t max_texts = 2000;     // marked answers that are shown to the suspect
    std::int64_t answers = 1000;       // that it is asked to write
    std::int64_t answer_tokens = 128;  // of each
    double temperature = 1;
    // radioactivity-closed: once a bettor's wealth reaches e to this, no more is asked; 0: all is.
    double stop_log_wealth = 0;
    std::uint64_t seed = 1;
};

struct GatherInput {
    std::span<const escrow::Record> records;
    std::span<const escrow::Canary> canaries;
    Suspect* suspect = nullptr;
    Suspect* reference = nullptr;              // a model that cannot have seen the answers; null: none
    const text::TextModel* teacher = nullptr;  // whose tokens are marked
    std::optional<watermark::Scheme> scheme;
    watermark::Subkey subkey;
    std::string channel;  // records of others are no evidence for this key
    GatherSettings settings;
    std::string teacher_name;  // corroboration: what the teacher says it is; empty: not asked
    OnProgress progress;
};

Result<Json> gather(std::string_view test, const GatherInput& input);

// The marked answers themselves, as a test of the key and the tokenizer: they must be found.
Result<Json> gather_control(const GatherInput& input);

}  // namespace retort::audit
