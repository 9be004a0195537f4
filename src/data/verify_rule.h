// What the rules of verify.h share; included by their sources alone. Knows no rule.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "data/verify.h"

namespace retort::data {

// Immutable once built.
class Verifier::Rule {
  public:
    explicit Rule(std::string type) : type_(std::move(type)) {}
    virtual ~Rule() = default;
    Rule(const Rule&) = delete;
    Rule& operator=(const Rule&) = delete;
    [[nodiscard]] virtual Result<Verdict> check(std::string_view answer,
                                                const formats::Json& metadata) const = 0;
    [[nodiscard]] const std::string& type() const { return type_; }

  private:
    std::string type_;
};

using RulePointer = std::shared_ptr<const Verifier::Rule>;

inline Verdict passed() {
    return {.passed = true, .reason = {}};
}

template <typename... Args>
Verdict failed(fmt::format_string<Args...> text, Args&&... args) {
    return {.passed = false, .reason = fmt::format(text, std::forward<Args>(args)...)};
}

inline Status allow_keys(const formats::Json& spec, std::initializer_list<std::string_view> keys) {
    for (const auto& [key, value] : spec.items()) {
        if (key == "type" || std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
        return fail(ErrorCode::invalid_argument, "verifier of type {}: it has no key \"{}\"; it has {}",
                    spec.value("type", ""), key, fmt::join(keys, ", "));
    }
    return {};
}

// "a {thing} and {other}" with the members of the metadata in place of the braces. "{{" is a brace.
Result<std::string> fill(std::string_view text, const formats::Json& metadata);

Result<RulePointer> schema_rule(const formats::Json& spec);   // verify_schema.cpp
Result<RulePointer> command_rule(const formats::Json& spec);  // verify_command.cpp

}  // namespace retort::data
