// Verifiers: rules that a program can check an answer by, built from a small specification
// (docs/formats/verifiers.md). Shared by curating (keep what is right) and evaluation (the task's score).
// Knows no model.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "formats/json.h"

namespace retort::data {

struct Verdict {
    bool passed = false;
    std::string reason;  // why not: "3 sentences, at most 2"
};

class Verifier {
  public:
    // {"type": "sentences" | "regex" | "numeric" | "choice" | "equals" | "json_schema" | "command" | "all" |
    // "any", …}. A key that the type does not have is an error, as is a pattern that does not compile.
    static Result<Verifier> from_spec(const formats::Json& spec);
    static Result<Verifier> from_file(const std::filesystem::path& path);

    // `metadata` is the prompt's: "{thing}" in a specification stands for its member "thing". A member that
    // is not there is an error, not a failed answer.
    [[nodiscard]] Result<Verdict> check(std::string_view answer, const formats::Json& metadata) const;
    [[nodiscard]] const std::string& type() const;

    class Rule;

  private:
    explicit Verifier(std::shared_ptr<const Rule> rule) : rule_(std::move(rule)) {}
    std::shared_ptr<const Rule> rule_;
};

// The sentences of plain prose: ends at . ! ? … before white space or the end; abbreviations ("Mr.", "e.g."),
// initials and decimal points do not end one.
std::int64_t count_sentences(std::string_view text);

// The value of "42", "-3.5", "1,234", "3/4", "\frac{3}{4}", "75%", "$12"; not a number otherwise.
struct Number {
    bool valid = false;
    bool exact = false;  // numerator / denominator hold it
    std::int64_t numerator = 0;
    std::int64_t denominator = 1;
    double value = 0;
};
Number parse_number(std::string_view text);
// What an answer gives as its result: the last \boxed{…}, else what follows the last "####", else the last
// number.
std::string_view final_number_text(std::string_view answer);

}  // namespace retort::data
