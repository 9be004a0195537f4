// The template language of chat templates: the subset of Jinja 2 that published models' templates use, with
// the settings that transformers renders them with. What it covers is in docs/formats/chat_template.md. A
// construct outside it is an error that names it. A hostile template ends in an error, never in a hang or in
// all memory. Knows nothing of chats.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace retort::text::jinja {

struct Limits {
    std::size_t output_bytes = std::size_t{64} << 20U;
    std::size_t total_bytes = std::size_t{512} << 20U;  // of all values made while rendering, together
    std::uint64_t steps = 20'000'000;                   // expressions and statements
    int call_depth = 64;                                // macros within macros
};

using Variables = std::vector<std::pair<std::string, nlohmann::ordered_json>>;

// Immutable and cheap to copy; may be rendered from several threads at once.
class Template {
  public:
    static Result<Template> parse(std::string_view source);
    [[nodiscard]] Result<std::string> render(const Variables& variables, const Limits& limits = {}) const;

  private:
    struct Tree;
    std::shared_ptr<const Tree> tree_;
};

}  // namespace retort::text::jinja
