#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/compare_models.h"
#include "cli/model_path.h"

namespace retort::cli {

void add_eval(Commands& commands) {
    struct Options {
        CompareOptions compare;
        std::string teacher;
        std::vector<std::string> students;
        std::string records;
        std::string verifier;
        std::string output;
    };
    auto options = std::make_shared<Options>();
    CLI::App& command = commands.add(
        Group::judging, "eval", "compare students with their teacher on held-out answers",
        {"retort eval --teacher smollm2 --records curated/test.jsonl before=start/model "
         "distilled=student/model"},
        [options](const CommonOptions& common) -> Status {
            CompareOptions& compare = options->compare;
            RETORT_TRY(compare.teacher, resolve_model(options->teacher));
            compare.records = options->records;
            compare.quiet = common.quiet;
            compare.command = "retort eval";
            if (!options->verifier.empty()) {
                RETORT_TRY(compare.verifier, data::Verifier::from_file(options->verifier));
            }
            for (const std::string& student : options->students) {
                const std::size_t equals = student.find('=');
                ComparedModel model;
                model.key = equals == std::string::npos ? student : student.substr(0, equals);
                model.name = model.key;
                if (model.key == "before") model.role = evaluate::Role::before;
                if (model.key == "text") model.role = evaluate::Role::text_only;
                if (model.key == "distilled") model.role = evaluate::Role::distilled;
                RETORT_TRY(model.path,
                           resolve_model(equals == std::string::npos ? student : student.substr(equals + 1)));
                compare.models.push_back(std::move(model));
            }
            RETORT_TRY(const evaluate::ComparisonReport report, compare_models(compare));
            if (!options->output.empty()) RETORT_CHECK(evaluate::write_report(report, options->output));
            if (common.json) {
                fmt::print("{}\n", evaluate::report_to_json(report));
            } else {
                fmt::print("{}", evaluate::render_table(report));
                if (!options->output.empty()) fmt::print("report: {}/report.html\n", options->output);
            }
            return {};
        });
    command
        .add_option("students", options->students,
                    "NAME=MODEL, or MODEL; the names before, text and distilled set what a model is in the "
                    "comparison")
        ->required();
    command.add_option("--teacher", options->teacher, "a GGUF file, a folder, or a name under models/")
        ->required();
    command.add_option("--records", options->records, "held-out records, JSON lines")->required();
    command.add_option("--verifier", options->verifier,
                       "specification of the task's score (docs/formats/verifiers.md)");
    command.add_option("--task-prompts", options->compare.task_prompts, "prompts that every model answers")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--max-tokens", options->compare.max_answer_tokens, "of each answer")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command.add_option("--row-length", options->compare.row_length, "tokens a packed row")
        ->check(CLI::Range(16, 131072))
        ->capture_default_str();
    command
        .add_option("--speed-tokens", options->compare.speed_tokens,
                    "decoded by each model to measure its speed")
        ->check(CLI::Range(2, 100'000))
        ->capture_default_str();
    command.add_option("--title", options->compare.title, "of the report")->capture_default_str();
    command.add_option("--output", options->output, "folder for report.html and report.json");
    command.add_option("--by-prompt", options->compare.by_prompt,
                       "a file for what every model scored on every held-out prompt, JSON lines");
    commands.add_json_option(command);
}

}  // namespace retort::cli
