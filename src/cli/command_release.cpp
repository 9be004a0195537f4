// retort release: the gate, and what is sealed once it holds.
#include <fmt/format.h>

#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/loaded_model.h"
#include "cli/model_path.h"
#include "data/lineage.h"
#include "data/manifest.h"
#include "evaluate/task.h"
#include "release/bundle.h"
#include "release/check.h"
#include "serve/planting.h"

namespace retort::cli {

namespace {

namespace rel = retort::release;
using ReleaseJson = formats::Json;
using ReleasePath = std::filesystem::path;

// ---- check

Result<std::vector<std::vector<std::int32_t>>> prompt_tokens(LoadedModel& local,
                                                             std::span<const rel::Asked> asked) {
    std::vector<std::vector<std::int32_t>> prompts;
    for (const rel::Asked& one : asked) {
        if (one.messages.empty()) {
            prompts.push_back(local.text.tokenizer.encode(one.text));
            continue;
        }
        RETORT_TRY(generate::TextRequest request, conversation_request(local, one.messages));
        prompts.push_back(std::move(request.tokens.prompt));
    }
    return prompts;
}

evaluate::AnswerOptions answer_options(const LoadedModel& local, const rel::Asking& how) {
    evaluate::AnswerOptions options;
    options.sampling.temperature = static_cast<float>(how.temperature);
    options.sampling.seed = how.seed;
    options.max_tokens = how.max_tokens;
    options.stop_tokens = local.text.end_of_turn_tokens;
    return options;
}

// The functions that ask a loaded model.
rel::ModelUnderTest model_under_test(LoadedModel& local, const ReleasePath& path) {
    rel::ModelUnderTest model;
    model.path = path;
    model.encode = [&local](std::string_view text) {
        return local.text.tokenizer.encode(text, {.add_special_tokens = false, .parse_special = false});
    };
    model.decode = [&local](std::span<const std::int32_t> ids) {
        return local.text.tokenizer.decode(ids, true);
    };
    model.answer = [&local](std::span<const rel::Asked> asked,
                            const rel::Asking& how) -> Result<std::vector<std::string>> {
        RETORT_TRY(const std::vector<std::vector<std::int32_t>> prompts, prompt_tokens(local, asked));
        const evaluate::AnswerOptions options = answer_options(local, how);
        RETORT_TRY(evaluate::GeneratedAnswers answers, evaluate::answer_prompts(
                                                           *local.engine, prompts, options,
                                                           [&](std::span<const std::int32_t> ids) {
                                                               return local.text.tokenizer.decode(ids, true);
                                                           },
                                                           how.on_progress));
        return std::move(answers.texts);
    };
    model.answer_marked = [&local](std::span<const rel::Asked> asked, const rel::Asking& how,
                                   const escrow::Plant& plant,
                                   const std::string& channel) -> Result<std::vector<rel::MarkedAnswer>> {
        RETORT_TRY(const std::vector<std::vector<std::int32_t>> prompts, prompt_tokens(local, asked));
        evaluate::AnswerOptions options = answer_options(local, how);
        if (plant.settings.scheme) {
            options.hook = [&] {
                generate::SamplingHook hook;
                serve::add_mark(plant, channel, hook);
                return hook;
            };
        }
        RETORT_TRY(evaluate::GeneratedAnswers answers,
                   evaluate::answer_prompts(
                       *local.engine, prompts, options,
                       [](std::span<const std::int32_t>) { return std::string(); }, how.on_progress));
        std::vector<rel::MarkedAnswer> out;
        for (std::size_t i = 0; i < prompts.size(); ++i)
            out.push_back({prompts[i], std::move(answers.ids[i])});
        return out;
    };
    model.predict = [&local](const data::Record& record) -> Result<std::vector<rel::Prediction>> {
        RETORT_TRY(generate::TextRequest request, conversation_request(local, record.request.messages));
        const std::size_t before = request.tokens.prompt.size();
        const auto answer = local.text.tokenizer.encode(
            record.content, {.add_special_tokens = false, .parse_special = false});
        request.tokens.prompt.insert(request.tokens.prompt.end(), answer.begin(), answer.end());
        std::vector<rel::Prediction> predictions;
        if (static_cast<std::int64_t>(request.tokens.prompt.size()) > local.engine->context_length()) {
            return predictions;
        }
        request.tokens.max_tokens = 0;
        request.tokens.prompt_logprobs = true;
        request.tokens.top_logprobs = 1;
        RETORT_TRY(const generate::Completion done,
                   local.engine->generate(std::move(request.tokens), nullptr));
        for (std::size_t i = before - 1; i < done.prompt.size(); ++i) {
            const generate::TokenEvent& event = done.prompt[i];
            if (event.top.empty()) continue;
            predictions.push_back(
                {std::exp(static_cast<double>(event.top[0].logprob)), event.top[0].token == event.token});
        }
        return predictions;
    };
    return model;
}

struct ReleaseCheckCommand {
    std::string model;
    std::string policy;
    std::string output;
    generate::EngineOptions engine;
};

Status run_release_check(const ReleaseCheckCommand& given, const CommonOptions& common) {
    RETORT_TRY(const rel::Policy policy, rel::read_policy(given.policy));
    RETORT_TRY(const ReleasePath path, resolve_model(given.model));
    RETORT_TRY(LoadedModel local, load_model(path.string(), given.engine));
    const ReleasePath output =
        given.output.empty() ? ReleasePath(path.string() + ".check.json") : ReleasePath(given.output);
    rel::CheckOptions options;
    options.scratch = output.string() + ".scratch";
    RETORT_CHECK(base::make_folders(options.scratch));
    // One bar an item: what is done, its rate, what is left.
    std::string current;
    std::unique_ptr<base::Progress> bar;
    if (!common.quiet && !common.json) {
        options.on_progress = [&](std::string_view item, std::int64_t done, std::int64_t total) {
            if (bar == nullptr || current != item) {
                current = item;
                bar = std::make_unique<base::Progress>("release check: " + current,
                                                       static_cast<std::uint64_t>(total), "answers");
            }
            bar->update(static_cast<std::uint64_t>(done));
        };
        options.on_item = [&](std::string_view item) {
            bar.reset();
            spdlog::info("release check: {} done", item);
        };
    }
    auto report = rel::check(model_under_test(local, path), policy, options);
    bar.reset();
    std::error_code error;
    std::filesystem::remove_all(options.scratch, error);
    if (!report) return tl::unexpected(report.error());
    const std::string json = formats::write_json(rel::check_json(*report), 2) + "\n";
    RETORT_CHECK(base::write_file_atomic(output, std::string_view(json)));
    fmt::print("{}", common.json ? json : rel::check_text(*report));
    if (!report->passed()) {
        return fail(ErrorCode::refused, "the policy does not hold; the report with its evidence is {}",
                    output.string());
    }
    if (!common.json) fmt::print("all hold; the report is {}\n", output.string());
    return {};
}

void add_release_check(Commands& commands, CLI::App& parent) {
    auto options = std::make_shared<ReleaseCheckCommand>();
    CLI::App& app = commands.add_nested(
        parent, "check", "measure a model against a policy; exit status 1 when it does not hold",
        {"retort release check student/model --policy policy.toml"},
        [options](const CommonOptions& common) { return run_release_check(*options, common); });
    app.add_option("model", options->model, "a GGUF file, a Hugging Face folder, or a name under models/")
        ->required()
        ->type_name("MODEL");
    app.add_option("--policy", options->policy, "docs/formats/release_policy.md")
        ->required()
        ->type_name("FILE");
    app.add_option("-o,--output", options->output,
                   "the report; the model's name with .check.json behind it if not given")
        ->type_name("FILE");
    app.add_option("--sequences", options->engine.max_sequences, "answers generated together")
        ->check(CLI::Range(1, 1024))
        ->type_name("N");
    commands.add_json_option(app);
}

// ---- sign

struct ReleaseSignCommand {
    std::string model;
    std::string policy;
    std::string check;
    std::string key;
    std::string output;
    std::string name;
    std::vector<std::string> overrides;
};

// The report must be of this model under this policy, and hold but for what is overridden with a reason.
Status may_be_signed(const ReleaseJson& check, const rel::Policy& policy, const std::string& model_sha256,
                     const std::vector<rel::Override>& overrides, const std::string& file) {
    RETORT_TRY(const std::string model, formats::json_string(check, "model_sha256"));
    RETORT_TRY(const std::string checked, formats::json_string(check, "policy_sha256"));
    if (model != model_sha256) {
        return fail(ErrorCode::refused, "{} is of another model (SHA-256 {}…, not {}…): check this one", file,
                    model.substr(0, 12), model_sha256.substr(0, 12));
    }
    if (checked != policy.sha256) {
        return fail(ErrorCode::refused, "{} is by another policy than {}: check again", file,
                    policy.path.string());
    }
    const ReleaseJson* items = formats::json_find(check, "items");
    if (items == nullptr || !items->is_array() || items->empty()) {
        return fail(ErrorCode::format, "{}: no items", file);
    }
    std::vector<std::string> unused;
    for (const rel::Override& one : overrides) unused.push_back(one.item);
    for (const ReleaseJson& item : *items) {
        RETORT_TRY(const std::string id, formats::json_string(item, "id"));
        RETORT_TRY(const bool passed, formats::json_boolean(item, "passed", false));
        if (passed) continue;
        if (std::erase(unused, id) == 0) {
            RETORT_TRY(const std::string shown, formats::json_string(item, "shown", std::string()));
            return fail(
                ErrorCode::refused,
                "{} does not hold ({}): not signed. Mend the model, or take it upon you with --override "
                "\"{}=REASON\", which is sealed with it",
                id, shown, id);
        }
    }
    if (!unused.empty()) {
        return fail(ErrorCode::invalid_argument, "--override {}: no item of that name fails", unused.front());
    }
    return {};
}

Result<std::vector<rel::BundleFile>> model_files(const ReleasePath& path) {
    std::vector<rel::BundleFile> files;
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
        files.push_back({"model/" + path.filename().string(), {}, path});
        return files;
    }
    for (std::filesystem::directory_iterator at(path, error);
         !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
        if (at->is_regular_file(error))
            files.push_back({"model/" + at->path().filename().string(), {}, at->path()});
    }
    if (error) return fail(ErrorCode::io, "{}: {}", path.string(), error.message());
    return files;
}

Result<std::vector<rel::SealedRecords>> sealed_records(const rel::Provenance& provenance) {
    std::vector<rel::SealedRecords> out;
    for (const rel::Source& source : provenance.sources) {
        if (source.kind != "records" || source.sha256.empty()) continue;
        const auto same = std::find_if(out.begin(), out.end(),
                                       [&](const auto& one) { return one.sha256 == source.sha256; });
        if (same != out.end()) {
            same->records += source.records;
        } else {
            out.push_back({source.merkle_root, source.sha256, source.records});
        }
    }
    return out;
}

Status run_release_sign(const ReleaseSignCommand& given, const CommonOptions&) {
    RETORT_TRY(const ReleasePath path, resolve_model(given.model));
    const std::string check_file = given.check.empty() ? path.string() + ".check.json" : given.check;
    RETORT_TRY(const rel::Policy policy, rel::read_policy(given.policy));
    RETORT_TRY(const std::string check_text, base::read_file(check_file, std::size_t{256} << 20U));
    RETORT_TRY(const ReleaseJson check, formats::parse_json(check_text, check_file));
    RETORT_TRY(const rel::SigningKey key, rel::read_signing_key(given.key));
    rel::SealOptions seal;
    for (const std::string& text : given.overrides) {
        const std::size_t equal = text.find('=');
        if (equal == std::string::npos || equal == 0 ||
            text.find_first_not_of(' ', equal + 1) == std::string::npos) {
            return fail(ErrorCode::invalid_argument, "--override \"{}\": an item, '=' and the reason", text);
        }
        seal.overrides.push_back({text.substr(0, equal), text.substr(equal + 1)});
    }
    rel::ProvenanceOptions how;
    how.terms_folders = policy.terms_folders;
    how.uses = policy.uses;
    RETORT_TRY(const rel::Provenance provenance, rel::trace(path, how));
    RETORT_CHECK(may_be_signed(check, policy, provenance.model_sha256, seal.overrides, check_file));
    seal.output = given.output;
    seal.name = given.name.empty() ? path.filename().string() : given.name;
    seal.date = base::utc_now();
    seal.model_sha256 = provenance.model_sha256;
    RETORT_TRY(seal.records, sealed_records(provenance));
    RETORT_TRY(seal.files, model_files(path));
    seal.files.push_back({"policy.toml", policy.text, {}});
    seal.files.push_back({"check.json", check_text, {}});
    seal.files.push_back(
        {"provenance.json", formats::write_json(rel::provenance_json(provenance), 2) + "\n", {}});
    seal.files.push_back({"bom.cdx.json", rel::cyclonedx_json(provenance, RETORT_VERSION), {}});
    seal.files.push_back({"README.md", data::model_card_markdown(rel::model_card(provenance, check)), {}});
    RETORT_CHECK(rel::seal(seal, key));
    fmt::print("{}: signed by {}", given.output, rel::public_key_hex(key));
    for (const rel::Override& one : seal.overrides)
        fmt::print("\n  overridden: {}, because {}", one.item, one.reason);
    fmt::print("\n");
    return {};
}

void add_release_sign(Commands& commands, CLI::App& parent) {
    auto options = std::make_shared<ReleaseSignCommand>();
    CLI::App& app = commands.add_nested(
        parent, "sign", "seal a model with its report, provenance, ML-BOM and card; only if the report holds",
        {"retort release sign student/model --policy policy.toml --key release.key -o release",
         "retort release sign student/model --policy policy.toml --key release.key -o release --override "
         "\"calibration=a draft for the eval team only\""},
        [options](const CommonOptions& common) { return run_release_sign(*options, common); });
    app.add_option("model", options->model, "that was checked")->required()->type_name("MODEL");
    app.add_option("--policy", options->policy, "that it was checked by")->required()->type_name("FILE");
    app.add_option("--check", options->check,
                   "the report; the model's name with .check.json behind it if not given")
        ->type_name("FILE");
    app.add_option("--key", options->key, "of `retort release key`")->required()->type_name("FILE");
    app.add_option("-o,--output", options->output, "the bundle, a folder that is not there yet")
        ->required()
        ->type_name("FOLDER");
    app.add_option("--name", options->name, "what the release is called; the model's own name if not given")
        ->type_name("NAME");
    app.add_option("--override", options->overrides,
                   "release although the item does not hold, for a reason, which is sealed with it")
        ->type_name("ITEM=REASON");
}

// ---- verify, key

struct ReleaseVerifyCommand {
    std::string bundle;
    std::string keys;
    std::vector<std::string> records;
};

Status run_release_verify(const ReleaseVerifyCommand& given, const CommonOptions& common) {
    std::vector<std::string> keys;
    if (!given.keys.empty()) {
        RETORT_TRY(keys, rel::read_public_keys(given.keys));
    }
    RETORT_TRY(const rel::VerifiedBundle bundle, rel::verify(given.bundle, keys));
    for (const std::string& records : given.records) RETORT_CHECK(rel::verify_records(bundle, records));
    if (common.json) {
        ReleaseJson overrides = ReleaseJson::array();
        for (const rel::Override& one : bundle.overrides)
            overrides.push_back({{"item", one.item}, {"reason", one.reason}});
        fmt::print("{}\n", formats::write_json({{"name", bundle.name},
                                                {"date", bundle.date},
                                                {"public_key", bundle.public_key},
                                                {"trusted", !keys.empty()},
                                                {"files", bundle.files},
                                                {"bytes", bundle.bytes},
                                                {"overrides", overrides}}));
        return {};
    }
    fmt::print("{}: {} files, {} as they were when {} signed them on {}{}\n", bundle.name, bundle.files,
               base::bytes_text(static_cast<double>(bundle.bytes)), bundle.public_key, bundle.date,
               keys.empty() ? "; nobody said whether that key is to be trusted (--key)" : "");
    for (const rel::Override& one : bundle.overrides)
        fmt::print("  overridden: {}, because {}\n", one.item, one.reason);
    return {};
}

void add_release_verify(Commands& commands, CLI::App& parent) {
    auto options = std::make_shared<ReleaseVerifyCommand>();
    CLI::App& app = commands.add_nested(
        parent, "verify", "check a bundle, every byte of it, without a network",
        {"retort release verify release --key release.pub",
         "retort release verify release --key release.pub --records curated/train.jsonl"},
        [options](const CommonOptions& common) { return run_release_verify(*options, common); });
    app.add_option("bundle", options->bundle, "what `retort release sign` wrote")
        ->required()
        ->type_name("FOLDER");
    app.add_option("--key", options->keys, "public keys that are trusted, one a line")->type_name("FILE");
    app.add_option("--records", options->records,
                   "records that the release names: whether they are still the same")
        ->type_name("FILE");
    commands.add_json_option(app);
}

Status run_release_key(const std::string& output) {
    std::error_code error;
    if (std::filesystem::exists(output, error)) {
        return fail(ErrorCode::invalid_argument, "{}: there already; a key is not written over", output);
    }
    const rel::SigningKey key = rel::make_signing_key();
    const mode_t before = ::umask(0077);
    const Status written = base::write_file_atomic(output, std::string_view(rel::signing_key_text(key)));
    ::umask(before);
    RETORT_CHECK(written);
    const std::string open =
        output.ends_with(".key") ? output.substr(0, output.size() - 4) + ".pub" : output + ".pub";
    RETORT_CHECK(base::write_file_atomic(open, std::string_view(rel::public_key_hex(key) + "\n")));
    fmt::print("{}: keep it secret; {} is for whoever verifies\n", output, open);
    return {};
}

}  // namespace

void add_release(Commands& commands) {
    CLI::App& app =
        commands.add(Group::judging, "release", "the gate: measured against a policy, then signed",
                     {"retort release check student/model --policy policy.toml",
                      "retort release sign student/model --policy policy.toml --key release.key -o release",
                      "retort release verify release --key release.pub"},
                     [](const CommonOptions&) -> Status { return {}; });
    add_release_check(commands, app);
    add_release_sign(commands, app);
    add_release_verify(commands, app);
    auto output = std::make_shared<std::string>();
    CLI::App& key =
        commands.add_nested(app, "key", "make a key to sign with", {"retort release key -o release.key"},
                            [output](const CommonOptions&) { return run_release_key(*output); });
    key.add_option("-o,--output", *output, "the secret key; the public one is written beside it as .pub")
        ->required()
        ->type_name("FILE");
}

}  // namespace retort::cli
