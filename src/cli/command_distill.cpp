#include <fmt/format.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/distill_options.h"
#include "cli/model_path.h"

namespace retort::cli {

void add_distill(Commands& commands) {
    struct Options {
        DistillSettings settings;
        std::string teacher;
        std::string student;
        std::string records;
        std::string output;
    };
    auto options = std::make_shared<Options>();
    CLI::App& command = commands.add(
        Group::training, "distill",
        "train a student on a teacher's answers, with or without its distribution",
        {"retort distill --teacher smollm2 --records curated/train.jsonl --keep-layers 20 --output student",
         "retort distill --student my-model --records curated/train.jsonl --objective ce --output tuned"},
        [options](const CommonOptions& common) -> Status {
            DistillSettings& settings = options->settings;
            RETORT_CHECK(settings.finish());
            train::DistillOptions& distill = settings.options;
            if (!options->teacher.empty()) {
                RETORT_TRY(distill.teacher, resolve_model(options->teacher));
            }
            if (!options->student.empty()) {
                RETORT_TRY(distill.start.model, resolve_model(options->student));
            }
            distill.records = options->records;
            distill.output = options->output;
            distill.train.quiet = common.quiet;
            RETORT_TRY(const train::DistillReport report, train::distill(distill));
            if (common.json) {
                fmt::print("{}", train::report_json(report, distill));
                return {};
            }
            fmt::print("{} steps, {} tokens in {} ({:.0f} tokens/s, {:.0f} GFLOP/s)\n", report.train.steps,
                       report.train.tokens, base::duration_text(report.train.seconds),
                       static_cast<double>(report.train.tokens) / std::max(1e-9, report.train.seconds),
                       report.train.gflops);
            fmt::print("student: {}\n", report.model.string());
            return {};
        });
    command.add_option("--teacher", options->teacher,
                       "its weights: a GGUF file, a folder, or a name under models/");
    command.add_option("--student", options->student, "what the student starts from (default: the teacher)");
    command.add_option("--records", options->records, "curated records, JSON lines")->required();
    command.add_option("--output", options->output, "folder for the student and its checkpoints")->required();
    add_distill_options(command, options->settings);
    commands.add_json_option(command);
}

}  // namespace retort::cli
