// What an engine can take on: the context, sequences and pages that its options come to, and which requests
// it can answer at all. Knows no queue and runs no model.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "generate/engine.h"
#include "model/config.h"

namespace retort::generate {

// EngineOptions with every 0 replaced, and the pages they come to.
struct SchedulerPlan {
    std::int64_t context_length = 0;
    std::int64_t max_sequences = 0;
    std::int64_t prefill_chunk = 0;
    std::int64_t page_count = 0;
    tensor::DType cache_type = tensor::DType::f32;
    std::int64_t draft_tokens = 0;
    std::int64_t draft_sequences = 0;
};
// draft: of the draft model, if there is one.
Result<SchedulerPlan> plan_scheduler(const model::ModelConfig& config, const EngineOptions& options,
                                     const model::ModelConfig* draft = nullptr);

// Of the cache of keys and values.
std::int64_t pages_for(std::int64_t tokens);

// What is wrong with a request, before it is queued.
Status check_request(const Request& request, const model::ModelConfig& config, std::int64_t context_length);

}  // namespace retort::generate
