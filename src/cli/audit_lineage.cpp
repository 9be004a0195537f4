// retort audit lineage: does one model's weights descend from another's?
#include <fmt/format.h>

#include "audit/lineage.h"
#include "cli/audit_options.h"
#include "cli/model_path.h"

namespace retort::cli {

namespace {

struct LineageCommand {
    std::string first;
    std::string second;
};

Status run_lineage(const LineageCommand& command, const CommonOptions& common) {
    RETORT_TRY(const auto first, resolve_model(command.first));
    RETORT_TRY(const auto second, resolve_model(command.second));
    RETORT_TRY(const audit::Lineage found, audit::compare_lineage(first, second));
    if (common.json) {
        fmt::print("{}\n", formats::write_json(audit::write_lineage(found)));
        return {};
    }
    if (found.has_permutation_test) {
        fmt::print("permutation test: {} hidden units in {} layers stand in the same order; ln p {:.1f}\n",
                   found.matched, found.layers, found.log_p);
    } else {
        fmt::print("permutation test: not possible: {}\n", found.why_not);
    }
    if (found.cka >= 0)
        fmt::print("CKA of the embeddings of {} shared tokens: {:.4f}\n", found.shared_tokens, found.cka);
    fmt::print("this speaks of lineage, weights that descend from weights, not of distillation\n");
    return {};
}

}  // namespace

void add_audit_lineage(Commands& commands, CLI::App& audit) {
    auto options = std::make_shared<LineageCommand>();
    CLI::App& app = commands.add_nested(
        audit, "lineage",
        "whether one model's weights descend from another's: another claim than distillation",
        {"retort audit lineage base.gguf suspect.gguf"},
        [options](const CommonOptions& common) { return run_lineage(*options, common); });
    app.add_option("first", options->first, "a model's files")->required()->type_name("MODEL");
    app.add_option("second", options->second, "another's")->required()->type_name("MODEL");
    commands.add_json_option(app);
}

}  // namespace retort::cli
