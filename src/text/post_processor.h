// The `post_processor` of tokenizer.json: which ids stand before and after a text's own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/json.h"

namespace retort::text {

struct PostProcessor {
    std::vector<std::int32_t> before;
    std::vector<std::int32_t> after;

    static Result<PostProcessor> parse(const formats::Json* json);
};

// A TemplateProcessing that puts these tokens around a text.
struct NamedToken {
    std::string text;
    std::int32_t id;
};
formats::Json template_processing(const std::vector<NamedToken>& before,
                                  const std::vector<NamedToken>& after);

}  // namespace retort::text
