// One run of a recipe, stage after stage: what each stage made is what the next one reads, and a stage whose
// inputs have not changed is not done again. Knows nothing of the command line.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/live_report.h"
#include "cli/recipe.h"
#include "cli/run_folder.h"
#include "evaluate/report.h"

namespace retort::cli {

class RecipeRun {
  public:
    RecipeRun(Recipe recipe, RunFolder folder, bool quiet);

    // Every stage that is not done yet. The run's page tells what goes on until the report itself is there.
    Result<evaluate::ComparisonReport> all();
    [[nodiscard]] std::filesystem::path page() const { return folder_.path() / "report.html"; }
    [[nodiscard]] std::filesystem::path report_folder() const { return folder_.path() / "evaluate"; }
    [[nodiscard]] std::filesystem::path shipped(const std::string& variant) const;
    [[nodiscard]] const Recipe& recipe() const { return recipe_; }

  private:
    Result<evaluate::ComparisonReport> stages();

    // What a variant is in the comparison.
    [[nodiscard]] bool on_the_way(const RecipeVariant& variant) const;
    [[nodiscard]] static bool with_teacher(const RecipeVariant& variant);
    [[nodiscard]] evaluate::Role role_of(const RecipeVariant& variant) const;
    [[nodiscard]] std::string display_name(const RecipeVariant& variant) const;
    [[nodiscard]] static std::string objective_of(const RecipeVariant& variant);

    // recipe_run.cpp: up to the student's start.
    Status pull_teacher();
    Status make_problems();
    Status collect_answers();
    Status curate_answers();
    [[nodiscard]] std::filesystem::path train_records() const {
        return folder_.path() / "curate" / "train.jsonl";
    }
    [[nodiscard]] std::filesystem::path validation_records() const;
    [[nodiscard]] std::filesystem::path test_records() const;
    std::string test_hash();
    [[nodiscard]] std::filesystem::path start_model() const { return folder_.path() / "start" / "model"; }
    [[nodiscard]] std::string model_name() const;
    Status start_student();

    // recipe_run_cache.cpp: the teacher's distribution on the records, once for all that train from it.
    [[nodiscard]] static std::string cache_of(const RecipeVariant& variant);  // its folder's name
    Status make_cache(const RecipeVariant& variant);
    [[nodiscard]] Result<std::vector<evaluate::Fact>> facts_of_caches() const;

    // recipe_run_students.cpp: what is made of it.
    Status distill_variant(const RecipeVariant& variant);
    Status own_answers_variant(const RecipeVariant& variant, const train::DistillOptions& options,
                               formats::Json inputs);
    static Status write_without_reasoning(const std::filesystem::path& from, const std::filesystem::path& to);
    [[nodiscard]] std::filesystem::path variant_model(const std::string& name) const;
    Status write_cards(const evaluate::ComparisonReport& report);
    [[nodiscard]] std::filesystem::path export_path(const std::string& variant,
                                                    const RecipeExport& one) const;
    Status export_students();
    [[nodiscard]] const RecipeVariant* find_variant(const std::string& name) const;
    [[nodiscard]] bool leads_to(const std::string& name, const RecipeVariant& variant) const;
    [[nodiscard]] std::filesystem::path metrics_of(const RecipeVariant& variant) const;
    [[nodiscard]] std::vector<std::filesystem::path> history_of(const RecipeVariant& variant) const;
    Status compare();

    Recipe recipe_;
    RunFolder folder_;
    bool quiet_;
    LiveReport live_;
    std::filesystem::path teacher_;
    std::string teacher_hash_;
    std::string teacher_licence_;
    StageResult problems_;
    StageResult collected_;
    StageResult curated_;
    StageResult started_;
    std::map<std::string, StageResult> cached_;  // by the folder's name
    std::map<std::string, StageResult> trained_;
    StageResult exported_;
};

}  // namespace retort::cli
