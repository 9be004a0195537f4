// From a conversation to the request that an engine answers.
#pragma once

#include <span>

#include "base/result.h"
#include "cli/loaded_model.h"
#include "data/record.h"
#include "generate/text_generation.h"

namespace retort::cli {

// The prompt by the model's template, and the tokens that end its turn; sampling and limits are the caller's
// to set.
Result<generate::TextRequest> conversation_request(const LoadedModel& model,
                                                   std::span<const data::Message> messages);

}  // namespace retort::cli
