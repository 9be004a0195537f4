// retort screen provenance: from a model to every source.
#include <fmt/format.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "release/provenance.h"

namespace retort::cli {

namespace {

struct ProvenanceCommand {
    std::string model;
    std::vector<std::filesystem::path> terms;
    std::vector<std::string> uses = {"train"};
    std::string bom;
    std::string card;
};

Status run_provenance(const ProvenanceCommand& given, const CommonOptions& common) {
    RETORT_TRY(const std::filesystem::path path, resolve_model(given.model));
    release::ProvenanceOptions options;
    options.terms_folders = given.terms;
    options.uses.clear();
    for (const std::string& name : given.uses) {
        RETORT_TRY(const data::Use use, data::use_from_name(name));
        options.uses.push_back(use);
    }
    RETORT_TRY(const release::Provenance provenance, release::trace(path, options));
    if (!given.bom.empty()) {
        RETORT_CHECK(base::write_file_atomic(
            given.bom, std::string_view(release::cyclonedx_json(provenance, RETORT_VERSION))));
    }
    if (!given.card.empty()) {
        const std::string card = data::model_card_markdown(release::model_card(provenance, {}));
        RETORT_CHECK(base::write_file_atomic(given.card, std::string_view(card)));
    }
    fmt::print("{}", common.json ? formats::write_json(release::provenance_json(provenance), 2) + "\n"
                                 : release::provenance_text(provenance));
    if (provenance.missing.empty() && provenance.objections.empty()) return {};
    return fail(ErrorCode::refused, "{} things are missing and {} stand against its use",
                provenance.missing.size(), provenance.objections.size());
}

}  // namespace

void add_screen_provenance(Commands& commands, CLI::App& parent) {
    auto options = std::make_shared<ProvenanceCommand>();
    CLI::App& app = commands.add_nested(
        parent, "provenance",
        "from a model to every source, its licence and terms; exit status 1 when something is missing",
        {"retort screen provenance student/model",
         "retort screen provenance student/model --use distribute --bom bom.cdx.json --card README.md"},
        [options](const CommonOptions& common) { return run_provenance(*options, common); });
    app.add_option("model", options->model, "a student: its folder or GGUF file")
        ->required()
        ->type_name("MODEL");
    app.add_option("--terms", options->terms, "folders with more terms files than those beside the records")
        ->type_name("FOLDER");
    app.add_option("--use", options->uses, "what the model is meant for: train, distribute, commercial")
        ->type_name("USE");
    app.add_option("--bom", options->bom, "write a CycloneDX ML-BOM")->type_name("FILE");
    app.add_option("--card", options->card, "write a model card")->type_name("FILE");
    commands.add_json_option(app);
}

}  // namespace retort::cli
