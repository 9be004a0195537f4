#include "base/sandbox.h"
#include "base/strings.h"
#include "data/verify_rule.h"

namespace retort::data {

using formats::Json;

namespace {

class CommandRule : public Verifier::Rule {
  public:
    CommandRule() : Rule("command") {}

    static Result<RulePointer> build(const Json& spec) {
        RETORT_CHECK(allow_keys(spec, {"command", "seconds", "memory_mb", "files_mb"}));
        auto rule = std::make_shared<CommandRule>();
        const Json* words = formats::json_find(spec, "command");
        const bool good =
            words != nullptr && words->is_array() && !words->empty() &&
            std::all_of(words->begin(), words->end(), [](const Json& word) { return word.is_string(); });
        if (!good) {
            return fail(ErrorCode::invalid_argument,
                        "verifier of type command: command must be a list, the program and its arguments");
        }
        for (const Json& word : *words) rule->command_.push_back(word.get<std::string>());
        RETORT_TRY(rule->limits_.seconds, formats::json_number(spec, "seconds", rule->limits_.seconds));
        RETORT_TRY(const std::int64_t memory, formats::json_integer(spec, "memory_mb", 512));
        RETORT_TRY(const std::int64_t files, formats::json_integer(spec, "files_mb", 16));
        if (!(rule->limits_.seconds > 0) || rule->limits_.seconds > 3600 || memory < 1 || files < 1 ||
            memory > 1 << 20 || files > 1 << 20) {
            return fail(
                ErrorCode::invalid_argument,
                "verifier of type command: seconds {} (up to 3600), memory_mb {} and files_mb {} must be "
                "above 0",
                rule->limits_.seconds, memory, files);
        }
        rule->limits_.memory_bytes = memory << 20U;
        rule->limits_.file_bytes = files << 20U;
        return rule;
    }

    // Exit status 0 passes, 1 fails with the first line it wrote as the reason; anything else is no verdict
    // of the command's but what the answer made of it: a crash, or a limit that was passed.
    [[nodiscard]] Result<Verdict> check(std::string_view answer, const Json& metadata) const override {
        std::vector<std::string> command;
        for (const std::string& word : command_) {
            RETORT_TRY(command.emplace_back(), fill(word, metadata));
        }
        const Json given = {{"answer", answer}, {"metadata", metadata}};
        RETORT_TRY(const base::SandboxOutcome outcome,
                   base::run_in_sandbox(command, formats::write_json(given) + "\n", limits_));
        if (outcome.timed_out) return failed("{} took more than {} s", command[0], limits_.seconds);
        if (outcome.exit_status == 0) return passed();
        const std::string_view said = base::trimmed(outcome.output.empty() ? outcome.errors : outcome.output);
        const std::string_view line = said.substr(0, std::min<std::size_t>(said.find('\n'), 200));
        if (outcome.exit_status < 0) return failed("{} ended by signal {}", command[0], -outcome.exit_status);
        if (outcome.exit_status == 1) return failed("{}", line.empty() ? "the command says no" : line);
        return failed("{} gave exit status {}: {}", command[0], outcome.exit_status, line);
    }

  private:
    std::vector<std::string> command_;
    base::SandboxLimits limits_;
};

}  // namespace

Result<RulePointer> command_rule(const Json& spec) {
    return CommandRule::build(spec);
}

}  // namespace retort::data
