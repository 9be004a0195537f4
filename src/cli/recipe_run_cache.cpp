// The stage between the records and the students: what is kept of the teacher's distribution.
#include <algorithm>

#include "base/log.h"
#include "cli/recipe_run.h"
#include "data/logit_cache.h"
#include "train/cache_report.h"
#include "train/make_cache.h"

namespace retort::cli {

namespace fs = std::filesystem;
using formats::Json;

std::string RecipeRun::cache_of(const RecipeVariant& variant) {
    return variant.cache.used ? cache_name(variant.cache, variant.settings, variant.answers_only) : "";
}

Status RecipeRun::make_cache(const RecipeVariant& variant) {
    const std::string name = cache_of(variant);
    if (name.empty() || cached_.contains(name)) return {};
    train::CacheOptions options;
    options.teacher = teacher_;
    options.encoding = variant.cache.encoding;
    options.count = variant.cache.count;
    options.temperature = cache_temperature(variant.cache, variant.settings);
    options.auto_dtype = variant.settings.options.auto_dtype;
    options.bf16 = variant.settings.options.train.bf16;
    options.quiet = quiet_;
    // Whatever any of its students has room for.
    options.row_length = 0;
    for (const RecipeVariant& one : recipe_.variants) {
        if (cache_of(one) == name)
            options.row_length = std::max(options.row_length, one.settings.options.row_length);
    }
    const Json inputs = {{"teacher", teacher_hash_},
                         {"train", curated_.files["train.jsonl"]},
                         {"encoding", data::encoding_name(options.encoding)},
                         {"count", options.count},
                         {"temperature", options.temperature},
                         {"row_length", options.row_length},
                         {"dtype", variant.settings.dtype},
                         {"answers_only", variant.answers_only}};
    const auto work = [&](const fs::path& folder) -> Status {
        live_.now("The teacher reads the records, once for all students.");
        options.output = folder;
        options.records = train_records();
        if (variant.answers_only) {
            options.records = folder / "answers.jsonl";
            RETORT_CHECK(write_without_reasoning(train_records(), options.records));
        }
        RETORT_TRY(const data::CacheSummary made, train::make_logit_cache(options));
        spdlog::info("{}: {} records, {:.1f} bytes a token", name, made.records, made.bytes_per_token());
        return {};
    };
    RETORT_TRY(cached_[name], folder_.stage(name, inputs, work, {.scratch_files = {"lock"}}));
    return {};
}

Result<std::vector<evaluate::Fact>> RecipeRun::facts_of_caches() const {
    std::vector<evaluate::Fact> facts;
    for (const auto& [name, stage] : cached_) {
        RETORT_TRY(const data::LogitCache cache, data::LogitCache::open(folder_.path() / name));
        std::vector<std::string> students;
        for (const RecipeVariant& variant : recipe_.variants) {
            if (cache_of(variant) == name) students.push_back(variant.name);
        }
        for (auto& [label, value] : train::cache_facts(cache.header(), cache.summary())) {
            facts.push_back({fmt::format("{}: {}", fmt::join(students, ", "), label), std::move(value)});
        }
    }
    return facts;
}

}  // namespace retort::cli
