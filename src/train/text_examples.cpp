#include "train/text_examples.h"

#include "base/log.h"

namespace retort::train {

data::Renderer chat_renderer(const text::TextModel& text) {
    return
        [&text](std::span<const data::Message> messages, bool add_generation_prompt) -> Result<std::string> {
            nlohmann::ordered_json json = nlohmann::ordered_json::array();
            for (const data::Message& message : messages) {
                nlohmann::ordered_json one = {{"role", message.role}, {"content", message.content}};
                if (!message.reasoning.empty()) one["reasoning_content"] = message.reasoning;
                json.push_back(std::move(one));
            }
            text::ChatTemplateOptions options;
            options.add_generation_prompt = add_generation_prompt;
            return text.chat_template.render(json, options);
        };
}

Result<std::vector<data::Example>> text_examples(std::span<const data::Record> records,
                                                 const text::TextModel& text, std::int64_t max_tokens) {
    data::ExampleOptions options;
    options.max_tokens = max_tokens;
    options.end_of_turn_tokens = text.end_of_turn_tokens;
    RETORT_TRY(data::ExampleSet set,
               data::make_examples(records, chat_renderer(text), text.tokenizer, options));
    for (const data::SkippedExample& skipped : set.skipped) {
        spdlog::debug("record {} skipped ({} tokens): {}", skipped.record_id, skipped.tokens, skipped.reason);
    }
    if (!set.skipped.empty()) {
        spdlog::warn("{} of {} records skipped; the first, {}: {}", set.skipped.size(), records.size(),
                     set.skipped.front().record_id, set.skipped.front().reason);
    }
    if (set.examples.empty())
        return fail(ErrorCode::invalid_argument, "every record was skipped: {}", set.skipped.front().reason);
    return std::move(set.examples);
}

}  // namespace retort::train
