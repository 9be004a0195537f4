#include "data/verify.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "data/pattern.h"
#include "data/prompts.h"
#include "data/spec_file.h"
#include "data/verify_rule.h"

namespace retort::data {

using formats::Json;

namespace {

std::int64_t count_words(std::string_view text) {
    std::int64_t words = 0;
    bool inside = false;
    for (const char c : text) {
        const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
        words += !blank && !inside ? 1 : 0;
        inside = !blank;
    }
    return words;
}

// "bells" and "boxes" mention "bell" and "box"; "ladies" mentions "lady"; words only as a whole.
bool mentions(std::string_view answer, std::string_view thing) {
    const std::string hay = " " + normalised_text(answer) + " ";
    const std::string needle = normalised_text(thing);
    if (needle.empty()) return true;
    std::vector<std::string> forms = {needle, needle + "s", needle + "es"};
    if (needle.back() == 'y') forms.push_back(needle.substr(0, needle.size() - 1) + "ies");
    if (needle.back() == 'f') forms.push_back(needle.substr(0, needle.size() - 1) + "ves");
    if (needle.ends_with("fe")) forms.push_back(needle.substr(0, needle.size() - 2) + "ves");
    return std::any_of(forms.begin(), forms.end(), [&](const std::string& form) {
        return hay.find(" " + form + " ") != std::string::npos;
    });
}

bool has_markdown(std::string_view text) {
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        std::string_view line = text.substr(begin, end - begin);
        begin = end + 1;
        line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
        if (line.starts_with("- ") || line.starts_with("* ") || line.starts_with("#") ||
            line.starts_with("```") || line.starts_with("| ") || line.starts_with("\u2022")) {
            return true;
        }
        const std::size_t digits = std::min(line.find_first_not_of("0123456789"), line.size());
        if (digits > 0 && digits < line.size() && (line[digits] == '.' || line[digits] == ')') &&
            digits + 1 < line.size() && line[digits + 1] == ' ') {
            return true;
        }
    }
    return text.find("**") != std::string_view::npos;
}

class SentencesRule : public Verifier::Rule {
  public:
    SentencesRule() : Rule("sentences") {}

    static Result<RulePointer> build(const Json& spec) {
        RETORT_CHECK(
            allow_keys(spec, {"min", "max", "min_words", "max_words", "must_mention", "must_not_mention",
                              "ends_with_punctuation", "no_markdown", "one_paragraph"}));
        auto rule = std::make_shared<SentencesRule>();
        RETORT_TRY(rule->min_, formats::json_integer(spec, "min", 1));
        RETORT_TRY(rule->max_, formats::json_integer(spec, "max", 0));
        RETORT_TRY(rule->min_words_, formats::json_integer(spec, "min_words", 0));
        RETORT_TRY(rule->max_words_, formats::json_integer(spec, "max_words", 0));
        RETORT_TRY(rule->must_mention_, formats::json_string(spec, "must_mention", std::string()));
        RETORT_TRY(rule->must_not_mention_, formats::json_string(spec, "must_not_mention", std::string()));
        RETORT_TRY(rule->ends_with_punctuation_, formats::json_boolean(spec, "ends_with_punctuation", true));
        RETORT_TRY(rule->no_markdown_, formats::json_boolean(spec, "no_markdown", true));
        RETORT_TRY(rule->one_paragraph_, formats::json_boolean(spec, "one_paragraph", true));
        if (rule->max_ != 0 && rule->max_ < rule->min_) {
            return fail(ErrorCode::invalid_argument, "verifier of type sentences: max {} is below min {}",
                        rule->max_, rule->min_);
        }
        return rule;
    }

    [[nodiscard]] Result<Verdict> check(std::string_view answer, const Json& metadata) const override {
        answer = base::trimmed(answer);
        if (answer.empty()) return failed("empty");
        const std::int64_t sentences = count_sentences(answer);
        if (sentences < min_) return failed("{} sentences, at least {}", sentences, min_);
        if (max_ != 0 && sentences > max_) return failed("{} sentences, at most {}", sentences, max_);
        const std::int64_t words = count_words(answer);
        if (words < min_words_) return failed("{} words, at least {}", words, min_words_);
        if (max_words_ != 0 && words > max_words_) return failed("{} words, at most {}", words, max_words_);
        if (ends_with_punctuation_ && !ends_well(answer)) return failed("does not end with a full stop");
        if (no_markdown_ && has_markdown(answer)) return failed("has a list or markdown");
        if (one_paragraph_ && answer.find('\n') != std::string_view::npos) return failed("has several lines");
        if (!must_mention_.empty()) {
            RETORT_TRY(const std::string thing, fill(must_mention_, metadata));
            if (!mentions(answer, thing)) return failed("does not mention \"{}\"", thing);
        }
        if (!must_not_mention_.empty()) {
            RETORT_TRY(const std::string thing, fill(must_not_mention_, metadata));
            if (mentions(answer, thing)) return failed("mentions \"{}\"", thing);
        }
        return passed();
    }

  private:
    static bool ends_well(std::string_view answer) {
        for (const std::string_view close : {"\"", "'", ")", "\u201d", "\u2019"}) {
            if (answer.ends_with(close)) {
                answer.remove_suffix(close.size());
                break;
            }
        }
        return answer.ends_with('.') || answer.ends_with('!') || answer.ends_with('?') ||
               answer.ends_with("\u2026");
    }

    std::int64_t min_ = 1;
    std::int64_t max_ = 0;
    std::int64_t min_words_ = 0;
    std::int64_t max_words_ = 0;
    std::string must_mention_;
    std::string must_not_mention_;
    bool ends_with_punctuation_ = true;
    bool no_markdown_ = true;
    bool one_paragraph_ = true;
};

class RegexRule : public Verifier::Rule {
  public:
    explicit RegexRule(Pattern pattern) : Rule("regex"), pattern_(std::move(pattern)) {}

    static Result<RulePointer> build(const Json& spec) {
        RETORT_CHECK(allow_keys(spec, {"pattern", "whole", "ignore_case", "invert"}));
        RETORT_TRY(const std::string pattern, formats::json_string(spec, "pattern"));
        RETORT_TRY(const bool ignore_case, formats::json_boolean(spec, "ignore_case", false));
        RETORT_TRY(Pattern compiled, Pattern::compile(pattern, ignore_case));
        auto rule = std::make_shared<RegexRule>(std::move(compiled));
        RETORT_TRY(rule->whole_, formats::json_boolean(spec, "whole", false));
        RETORT_TRY(rule->invert_, formats::json_boolean(spec, "invert", false));
        return rule;
    }

    [[nodiscard]] Result<Verdict> check(std::string_view answer, const Json& /*metadata*/) const override {
        RETORT_TRY(const bool found, pattern_.matches(answer, whole_));
        if (found == invert_)
            return failed("{}", invert_ ? "matches the pattern" : "does not match the pattern");
        return passed();
    }

  private:
    Pattern pattern_;
    bool whole_ = false;
    bool invert_ = false;
};

class NumericRule : public Verifier::Rule {
  public:
    NumericRule() : Rule("numeric") {}

    static Result<RulePointer> build(const Json& spec) {
        RETORT_CHECK(allow_keys(spec, {"expected", "tolerance"}));
        auto rule = std::make_shared<NumericRule>();
        RETORT_TRY(rule->expected_, formats::json_string(spec, "expected"));
        RETORT_TRY(rule->tolerance_, formats::json_number(spec, "tolerance", 0));
        return rule;
    }

    [[nodiscard]] Result<Verdict> check(std::string_view answer, const Json& metadata) const override {
        RETORT_TRY(const std::string expected_text, fill(expected_, metadata));
        const Number expected = parse_number(expected_text);
        if (!expected.valid) {
            return fail(ErrorCode::invalid_argument, "verifier of type numeric: expected \"{}\" is no number",
                        expected_text);
        }
        const std::string_view given_text = final_number_text(answer);
        const Number given = parse_number(given_text);
        if (!given.valid) return failed("gives no number");
        const bool same = expected.exact && given.exact ? expected.numerator == given.numerator &&
                                                              expected.denominator == given.denominator
                                                        : expected.value == given.value;
        const double slack = tolerance_ * std::max(1.0, std::abs(expected.value));
        if (same || std::abs(expected.value - given.value) <= slack) return passed();
        return failed("gives {}, not {}", given_text, expected_text);
    }

  private:
    std::string expected_;
    double tolerance_ = 0;  // relative above 1, absolute below
};

class ChoiceRule : public Verifier::Rule {
  public:
    ChoiceRule() : Rule("choice") {}

    static Result<RulePointer> build(const Json& spec) {
        RETORT_CHECK(allow_keys(spec, {"expected"}));
        auto rule = std::make_shared<ChoiceRule>();
        RETORT_TRY(rule->expected_, formats::json_string(spec, "expected"));
        return rule;
    }

    [[nodiscard]] Result<Verdict> check(std::string_view answer, const Json& metadata) const override {
        RETORT_TRY(const std::string expected, fill(expected_, metadata));
        if (expected.size() != 1 || expected[0] < 'A' || expected[0] > 'Z') {
            return fail(ErrorCode::invalid_argument,
                        "verifier of type choice: expected \"{}\" is no letter A-Z", expected);
        }
        const char given = final_choice(answer);
        if (given == expected[0]) return passed();
        if (given == 0) return failed("gives no choice");
        return failed("gives {}, not {}", given, expected);
    }

  private:
    // \boxed{B}, else the last capital that stands alone: "B", "(B)", "B.", "answer: B".
    static char final_choice(std::string_view answer) {
        if (const std::size_t at = answer.rfind("\\boxed{");
            at != std::string_view::npos && at + 8 < answer.size()) {
            return answer[at + 8] == '}' ? answer[at + 7] : '\0';
        }
        const auto is_word = [](char c) {
            return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\'' ||
                   static_cast<unsigned char>(c) >= 0x80;
        };
        for (std::size_t i = answer.size(); i-- > 0;) {
            const char c = answer[i];
            if (c < 'A' || c > 'Z') continue;
            if (i > 0 && is_word(answer[i - 1])) continue;
            if (i + 1 < answer.size() && is_word(answer[i + 1])) continue;
            // "A cat" and "I am" are words, not choices.
            const bool word = (c == 'A' || c == 'I') && i + 2 < answer.size() && answer[i + 1] == ' ' &&
                              answer[i + 2] >= 'a' && answer[i + 2] <= 'z';
            if (!word) return c;
        }
        return '\0';
    }

    std::string expected_;
};

class EqualsRule : public Verifier::Rule {
  public:
    EqualsRule() : Rule("equals") {}

    static Result<RulePointer> build(const Json& spec) {
        RETORT_CHECK(allow_keys(spec, {"expected", "exact"}));
        auto rule = std::make_shared<EqualsRule>();
        RETORT_TRY(rule->expected_, formats::json_string(spec, "expected"));
        RETORT_TRY(rule->exact_, formats::json_boolean(spec, "exact", false));
        return rule;
    }

    [[nodiscard]] Result<Verdict> check(std::string_view answer, const Json& metadata) const override {
        RETORT_TRY(const std::string expected, fill(expected_, metadata));
        const bool same = exact_ ? answer == expected : normalised_text(answer) == normalised_text(expected);
        return same ? passed() : failed("is not \"{}\"", expected);
    }

  private:
    std::string expected_;
    bool exact_ = false;
};

class CombinedRule : public Verifier::Rule {
  public:
    CombinedRule(bool all, std::vector<RulePointer> rules)
        : Rule(all ? "all" : "any"), all_(all), rules_(std::move(rules)) {}

    [[nodiscard]] Result<Verdict> check(std::string_view answer, const Json& metadata) const override {
        std::string reasons;
        for (const RulePointer& rule : rules_) {
            RETORT_TRY(const Verdict verdict, rule->check(answer, metadata));
            if (verdict.passed != all_) return verdict;
            if (!verdict.passed) reasons += (reasons.empty() ? "" : "; ") + verdict.reason;
        }
        return all_ ? passed() : Verdict{.passed = false, .reason = reasons};
    }

  private:
    bool all_;
    std::vector<RulePointer> rules_;
};

Result<RulePointer> build_rule(const Json& spec, int depth);

Result<RulePointer> build_combined(const Json& spec, bool all, int depth) {  // NOLINT(misc-no-recursion)
    RETORT_CHECK(allow_keys(spec, {"checks"}));
    const Json* checks = formats::json_find(spec, "checks");
    if (checks == nullptr || !checks->is_array() || checks->empty()) {
        return fail(ErrorCode::invalid_argument, "verifier of type {}: checks must be a list with an entry",
                    all ? "all" : "any");
    }
    std::vector<RulePointer> rules;
    for (const Json& check : *checks) {
        RETORT_TRY(RulePointer rule, build_rule(check, depth + 1));
        rules.push_back(std::move(rule));
    }
    return std::make_shared<CombinedRule>(all, std::move(rules));
}

Result<RulePointer> build_rule(const Json& spec, int depth) {  // NOLINT(misc-no-recursion)
    if (!spec.is_object()) return fail(ErrorCode::invalid_argument, "a verifier is a table");
    if (depth > 8) return fail(ErrorCode::invalid_argument, "verifiers nested deeper than 8");
    RETORT_TRY(const std::string type, formats::json_string(spec, "type"));
    if (type == "sentences") return SentencesRule::build(spec);
    if (type == "regex") return RegexRule::build(spec);
    if (type == "numeric") return NumericRule::build(spec);
    if (type == "choice") return ChoiceRule::build(spec);
    if (type == "equals") return EqualsRule::build(spec);
    if (type == "json_schema") return schema_rule(spec);
    if (type == "command") return command_rule(spec);
    if (type == "all" || type == "any") return build_combined(spec, type == "all", depth);
    return fail(ErrorCode::invalid_argument,
                "verifier: type \"{}\" is unknown; there are sentences, regex, numeric, choice, equals, "
                "json_schema, command, all, any",
                type);
}

}  // namespace

Result<Verifier> Verifier::from_spec(const Json& spec) {
    RETORT_TRY(RulePointer rule, build_rule(spec, 0));
    return Verifier(std::move(rule));
}

Result<Verifier> Verifier::from_file(const std::filesystem::path& path) {
    RETORT_TRY(const Json spec, read_spec_file(path));
    auto verifier = from_spec(spec);
    if (!verifier) return fail_from(verifier.error(), path.string());
    return verifier;
}

Result<Verdict> Verifier::check(std::string_view answer, const Json& metadata) const {
    return rule_->check(answer, metadata);
}

const std::string& Verifier::type() const {
    return rule_->type();
}

std::int64_t count_sentences(std::string_view text) {
    constexpr std::array<std::string_view, 13> abbreviations = {
        "mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "etc", "fig", "jr", "sr"};
    std::int64_t sentences = 0;
    bool open = false;  // letters since the last end
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const bool ellipsis = text.substr(i).starts_with("\u2026");
        if (c != '.' && c != '!' && c != '?' && !ellipsis) {
            open = open || (c != ' ' && c != '\n' && c != '\t' && c != '\r');
            continue;
        }
        std::size_t after = i + (ellipsis ? 3 : 1);
        while (after < text.size() && (text[after] == '.' || text[after] == '!' || text[after] == '?'))
            ++after;
        const std::size_t mark_end = after;
        for (const std::string_view close : {"\u201d", "\u2019", "\"", "'", ")"}) {
            if (text.substr(after).starts_with(close)) {
                after += close.size();
                break;
            }
        }
        const bool at_end = after >= text.size();
        const bool before_blank = !at_end && (text[after] == ' ' || text[after] == '\n' ||
                                              text[after] == '\t' || text[after] == '\r');
        // A small letter behind it carries the sentence on: "\"Stop!\" he said."
        const std::size_t next = std::min(text.find_first_not_of(" \t\r\n", after), text.size());
        const bool carried_on = next < text.size() && text[next] >= 'a' && text[next] <= 'z';
        bool ends = open && (at_end || (before_blank && !carried_on));
        if (ends && c == '.' && !at_end && mark_end == i + 1) {
            std::size_t begin = i;
            while (begin > 0 && text[begin - 1] != ' ' && text[begin - 1] != '\n' && text[begin - 1] != '(')
                --begin;
            std::string word(text.substr(begin, i - begin));
            std::transform(word.begin(), word.end(), word.begin(), [](char l) {
                return l >= 'A' && l <= 'Z' ? static_cast<char>(l - 'A' + 'a') : l;
            });
            const bool initial = word.size() == 1 && word[0] >= 'a' && word[0] <= 'z' && word[0] != 'i';
            ends = !initial &&
                   std::find(abbreviations.begin(), abbreviations.end(), word) == abbreviations.end();
        }
        if (ends) {
            ++sentences;
            open = false;
        }
        i = after - 1;
    }
    return sentences + (open ? 1 : 0);
}

}  // namespace retort::data
