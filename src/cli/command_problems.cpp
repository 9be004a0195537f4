// retort problems: verifiable problems with worked reasoning, made on the spot.
#include <fmt/format.h>

#include "base/file.h"
#include "cli/commands.h"
#include "data/problems.h"

namespace retort::cli {

void add_problems(Commands& commands) {
    struct Options {
        data::ProblemOptions problems;
        std::string split = "train";
        std::string output;
        bool worked = false;
    };
    auto options = std::make_shared<Options>();
    CLI::App& command = commands.add(
        Group::data, "problems", "make problems whose answers can be checked, with worked reasoning",
        {"retort problems --count 2000 --output prompts.jsonl",
         "retort problems --count 500 --split held-out --output test.jsonl",
         "retort problems --count 60000 --worked --output worked.jsonl"},
        [options](const CommonOptions&) -> Status {
            options->problems.split =
                options->split == "train" ? data::ProblemSplit::train : data::ProblemSplit::held_out;
            RETORT_TRY(const std::vector<data::Problem> problems, data::make_problems(options->problems));
            RETORT_TRY(base::AtomicFile file, base::AtomicFile::create(options->output));
            for (const data::Problem& problem : problems) {
                RETORT_CHECK(file.write((options->worked ? data::write_record(data::worked_record(problem))
                                                         : data::problem_prompt_line(problem)) +
                                        "\n"));
            }
            RETORT_CHECK(file.commit());
            fmt::print("{}: {} problems\n", options->output, problems.size());
            return {};
        });
    command.add_option("--output", options->output, "JSON lines: prompts, or with --worked records")
        ->required();
    command.add_option("--count", options->problems.count, "how many")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--seed", options->problems.seed, "the same seed, the same problems")
        ->capture_default_str();
    command
        .add_option("--split", options->split,
                    "train or held-out: a calculation is in one of them for good, whatever its words")
        ->check(CLI::IsMember({"train", "held-out"}))
        ->capture_default_str();
    command
        .add_option("--kinds", options->problems.kinds,
                    fmt::format("of {}", fmt::join(data::problem_kinds(), ", ")))
        ->delimiter(',');
    command.add_flag("--worked", options->worked,
                     "with reasoning and answer, for `distill` to train a teacher on");
}

}  // namespace retort::cli
