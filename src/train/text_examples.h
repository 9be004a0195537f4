// Records as examples by a model's own template and tokenizer: what training and evaluation both read.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "data/examples.h"
#include "data/record.h"
#include "text/text_model.h"

namespace retort::train {

// The template over messages; with the generation prompt, the text ends where the model would begin.
data::Renderer chat_renderer(const text::TextModel& text);

// Examples of at most max_tokens. Records that are skipped are counted in a warning, each named at debug
// level; when none is left, that is an error.
Result<std::vector<data::Example>> text_examples(std::span<const data::Record> records,
                                                 const text::TextModel& text, std::int64_t max_tokens);

}  // namespace retort::train
