// Prompt files: JSON lines ({"prompt": …} or {"messages": […]}, with optional id and metadata) or plain text,
// one prompt a line. Knows nothing of who will be asked.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/record.h"

namespace retort::data {

struct Prompt {
    std::string id;  // the file's own, else the first 16 hex digits of the hash of its messages
    std::vector<Message> messages;
    formats::Json metadata = formats::Json::object();
};

enum class PromptFormat { json_lines, plain_text };

// A system prompt, when given, is put before the messages of each prompt that has none. `name` stands in the
// messages of errors. Two prompts of the same id are an error.
Result<std::vector<Prompt>> parse_prompts(std::string_view text, PromptFormat format, std::string_view name,
                                          std::string_view system_prompt = {});
// .jsonl and .ndjson are JSON lines, .txt is plain text; otherwise a file whose first line begins with '{' is
// JSON lines.
Result<std::vector<Prompt>> read_prompts(const std::filesystem::path& path,
                                         std::string_view system_prompt = {});

// What decides the split of a record: the messages but the system's, folded to lower case and single spaces
// without punctuation, so that a trivial variant of a prompt never lands in another split.
std::string normalised_prompt(std::span<const Message> messages);
// Letters and digits of ASCII lower-cased, other ASCII a single space, bytes above 127 kept.
std::string normalised_text(std::string_view text);

}  // namespace retort::data
