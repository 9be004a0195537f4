#include <fmt/format.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/distill_options.h"
#include "cli/live_report.h"
#include "cli/model_path.h"
#include "train/cache_report.h"
#include "train/preflight.h"

namespace retort::cli {

namespace {

// The page in the output folder; `work` trains.
template <typename Work>
auto with_page(const train::DistillOptions& options, const std::string& objective, train::TrainOptions& train,
               const Work& work) {
    LiveReport live(train.world == nullptr || train.world->is_first() ? options.output / "report.html"
                                                                      : std::filesystem::path(),
                    options.output.filename().string(), "retort distill --objective " + objective, "");
    live.watch(train, "student", "The student", evaluate::Role::distilled, objective);
    auto report = work();
    if (report) {
        if constexpr (std::is_same_v<decltype(report), Result<train::DistillReport>>) {
            if (report->cache) {
                for (auto& [label, value] : train::cache_facts(report->cache->header, report->cache->summary))
                    live.fact(std::move(label), std::move(value));
            }
        }
        live.done(fmt::format("Trained: {} steps, {} tokens in {}.", report->train.steps,
                              report->train.tokens, base::duration_text(report->train.seconds)));
    } else {
        live.failed(report.error());
    }
    return report;
}

// A page of findings, printed and kept; a problem is a failure.
Status show_findings(const train::Preflight& found, const std::filesystem::path& output, bool json) {
    RETORT_CHECK(base::write_file_atomic(output / "preflight.txt", train::preflight_page(found)));
    fmt::print("{}", json ? train::preflight_json(found) : train::preflight_page(found));
    if (found.passed()) return {};
    return fail(ErrorCode::refused, "the run would not do what it should: see the page above, kept as {}",
                (output / "preflight.txt").string());
}

Status check_own_answers(train::OnPolicyJob job, const std::string& prompts, const std::string& verifier,
                         bool json) {
    std::vector<train::Finding> faults;
    const auto kept = [&](const char* about, auto read, auto& to) {
        if (read) {
            to = std::move(*read);
        } else {
            faults.push_back({train::Verdict::problem, about, read.error().message});
        }
    };
    kept("prompts", data::read_prompts(prompts), job.prompts);
    if (!verifier.empty()) kept("verifier", data::Verifier::from_file(verifier), job.verifier);
    if (verifier.empty() && job.options.kind == train::OnPolicyKind::grpo) {
        faults.push_back({train::Verdict::problem, "verifier",
                          "grpo is rewarded by one: give --verifier (docs/formats/verifiers.md)"});
    }
    RETORT_TRY(const train::Preflight found, train::preflight(job, std::move(faults)));
    return show_findings(found, job.output, json);
}

Status distill_on_own_answers(const DistillSettings& settings, const std::string& prompts,
                              const std::string& verifier, bool checks, const CommonOptions& common) {
    train::OnPolicyJob job = on_policy_job(settings);
    if (prompts.empty()) {
        return fail(ErrorCode::invalid_argument,
                    "objective {} has the student answer prompts: give --prompts", settings.objective);
    }
    if (checks) return check_own_answers(std::move(job), prompts, verifier, common.json);
    RETORT_TRY(job.prompts, data::read_prompts(prompts));
    if (!verifier.empty()) {
        RETORT_TRY(job.verifier, data::Verifier::from_file(verifier));
    }
    RETORT_TRY(const train::OnPolicyReport report,
               with_page(settings.options, settings.objective, job.options.train,
                         [&] { return train::distill_on_policy(job); }));
    if (job.options.train.world != nullptr && !job.options.train.world->is_first()) return {};
    if (common.json) {
        fmt::print("{}", train::report_json(report, job));
        return {};
    }
    fmt::print("{} steps, {} tokens sampled and {} trained on in {}\n", report.train.steps,
               report.sampled_tokens, report.train.trained_tokens, base::duration_text(report.train.seconds));
    fmt::print("student: {}\n", report.model.string());
    return {};
}

}  // namespace

void add_distill(Commands& commands) {
    struct Options {
        DistillSettings settings;
        std::string teacher;
        std::string student;
        std::string fresh;
        std::string tokenizer;
        std::string cache;
        bool check = false;
        std::string records;
        std::string prompts;
        std::string verifier;
        std::string output;
    };
    auto options = std::make_shared<Options>();
    CLI::App& command = commands.add(
        Group::training, "distill",
        "train a student on a teacher's answers, with or without its distribution",
        {"retort distill --teacher smollm2 --records curated/train.jsonl --keep-layers 20 --output student",
         "retort distill --student my-model --records curated/train.jsonl --objective ce --output tuned",
         "retort distill --fresh shape.toml --tokenizer folder --records worked.jsonl --objective ce "
         "--output new"},
        [options](const CommonOptions& common) -> Status {
            DistillSettings& settings = options->settings;
            RETORT_CHECK(settings.finish());
            train::Communicator*& world = settings.options.train.world;
            RETORT_TRY(world, train::join_world());
            if (!world->is_first()) spdlog::set_level(spdlog::level::err);
            train::DistillOptions& distill = settings.options;
            if (!options->teacher.empty()) {
                RETORT_TRY(distill.teacher, resolve_model(options->teacher));
            }
            if (!options->student.empty()) {
                RETORT_TRY(distill.start.model, resolve_model(options->student));
            }
            distill.start.fresh = options->fresh;
            distill.start.tokenizer = options->tokenizer;
            if (!options->tokenizer.empty() &&
                !std::filesystem::exists(distill.start.tokenizer / "tokenizer.json")) {
                RETORT_TRY(distill.start.tokenizer, resolve_model(options->tokenizer));
            }
            distill.records = options->records;
            distill.cache = options->cache;
            distill.output = options->output;
            distill.train.quiet = common.quiet;
            if (options->check && world->size() > 1) {
                return fail(ErrorCode::unsupported, "--check runs as one process: start it without mpirun");
            }
            if (settings.is_on_policy) {
                return distill_on_own_answers(settings, options->prompts, options->verifier, options->check,
                                              common);
            }
            if (options->records.empty()) {
                return fail(ErrorCode::invalid_argument, "objective {} trains on records: give --records",
                            settings.objective);
            }
            if (options->check) {
                RETORT_TRY(const train::Preflight found, train::preflight(distill));
                return show_findings(found, distill.output, common.json);
            }
            RETORT_TRY(const train::DistillReport report,
                       with_page(distill, settings.objective, distill.train,
                                 [&] { return train::distill(distill); }));
            if (!world->is_first()) return {};
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
    command.add_option("--cache", options->cache,
                       "a logit cache of `retort cache make`, in place of the teacher's weights");
    command
        .add_option("--fresh", options->fresh,
                    "start it from nothing: a file with its shape (TOML or config.json)")
        ->excludes("--student");
    command.add_option("--tokenizer", options->tokenizer,
                       "of a fresh student: a folder or a GGUF file (default: the teacher's)");
    command.add_option("--fresh-seed", options->settings.options.start.seed, "of a fresh student's numbers")
        ->capture_default_str();
    command.add_option("--records", options->records, "curated records, JSON lines");
    command.add_option("--prompts", options->prompts, "gkd, opd, grpo: prompts that the student answers");
    command.add_option("--verifier", options->verifier,
                       "grpo: what makes an answer right (docs/formats/verifiers.md)");
    command.add_option("--output", options->output, "folder for the student and its checkpoints")->required();
    command.add_flag(
        "--check", options->check,
        "look before the run: tokenizer, template, mask (gkd, opd, grpo: first answers and rewards), loss, "
        "memory and time, as a page of findings");
    add_distill_options(command, options->settings);
    commands.add_json_option(command);
}

}  // namespace retort::cli
