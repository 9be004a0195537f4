#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/loaded_model.h"
#include "cli/recipe_run.h"
#include "train/communicator.h"

namespace retort::cli {

namespace {

namespace fs = std::filesystem;

Status answer_first(const fs::path& model, const std::string& prompt) {
    RETORT_TRY(LoadedModel local, load_model(model.string(), {}));
    const std::vector<data::Message> messages = {{"user", prompt, ""}};
    RETORT_TRY(generate::TextRequest request, conversation_request(local, messages));
    request.tokens.sampling.temperature = 0;
    request.tokens.max_tokens = 96;
    fmt::print("\n> {}\n", prompt);
    RETORT_CHECK(generate::generate_text(*local.engine, local.text.tokenizer, std::move(request),
                                         [](const generate::TextDelta& delta) {
                                             fmt::print("{}", delta.content);
                                             std::fflush(stdout);
                                             return true;
                                         }));
    fmt::print("\n");
    return {};
}

}  // namespace

void add_run(Commands& commands) {
    struct Options {
        std::string recipe;
        std::string folder;
    };
    auto options = std::make_shared<Options>();
    CLI::App& command =
        commands.add(Group::training, "run", "a recipe: the whole loop from one TOML file, resumable",
                     {"retort run recipes/demo.toml", "retort run recipes/demo.toml --folder runs/second"},
                     [options](const CommonOptions& common) -> Status {
                         RETORT_TRY(train::Communicator * world, train::join_world());
                         if (world->size() > 1) {
                             return fail(ErrorCode::unsupported,
                                         "a recipe runs as one process: start `retort distill` by mpirun "
                                         "instead (docs/several-machines.md)");
                         }
                         RETORT_TRY(Recipe recipe, read_recipe(options->recipe));
                         if (!options->folder.empty()) recipe.folder = options->folder;
                         RETORT_TRY(RunFolder folder, RunFolder::open(recipe.folder));
                         RecipeRun run(std::move(recipe), std::move(folder), common.quiet);
                         RETORT_TRY(const evaluate::ComparisonReport report, run.all());
                         if (common.json) {
                             fmt::print("{}\n", evaluate::report_to_json(report));
                             return {};
                         }
                         fmt::print("\n{}\n", evaluate::render_table(report));
                         fmt::print("report: {}\n", (run.report_folder() / "report.html").string());
                         const fs::path model = run.shipped(run.recipe().variants.back().name);
                         fmt::print("student: {}\n", model.string());
                         if (!run.recipe().try_prompt.empty())
                             RETORT_CHECK(answer_first(model, run.recipe().try_prompt));
                         return {};
                     });
    command.add_option("recipe", options->recipe, "a TOML file (docs/formats/recipe.md)")->required();
    command.add_option("--folder", options->folder, "of the run, instead of the recipe's");
    commands.add_json_option(command);
}

}  // namespace retort::cli
