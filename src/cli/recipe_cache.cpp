#include "cli/recipe_cache.h"

#include <fmt/format.h>

#include "tensor/token_loss.h"
#include "train/make_cache.h"

namespace retort::cli {

Result<RecipeCache> read_cache_keys(const formats::TomlTable& table, const RecipeCache& inherited) {
    RecipeCache cache = inherited;
    const std::string before = inherited.used ? std::string(data::encoding_name(inherited.encoding)) : "none";
    RETORT_TRY(const std::string name, table.choice_or("cache", before, {"none", "samples", "top-k"}));
    cache.used = name != "none";
    if (name != before) cache.count = 0;
    if (cache.used) {
        RETORT_TRY(cache.encoding, data::encoding_from_name(name));
    }
    const bool kept = cache.used && cache.encoding == data::CacheEncoding::top_k;
    RETORT_TRY(cache.count, table.integer_or("cache_count", cache.count, table.has("cache_count") ? 1 : 0,
                                             kept ? 255 : 4096));
    if (!cache.used && table.has("cache_count")) {
        return table.error_at(
            "cache_count", "it is of a cache, and none is used here: give cache = \"samples\" or \"top-k\"");
    }
    if (cache.used && cache.count == 0) cache.count = train::usual_count(cache.encoding);
    return cache;
}

Result<RecipeCache> cache_for(const formats::TomlTable& own, bool is_its_own, const DistillSettings& settings,
                              const RecipeCache& asked) {
    if (!asked.used) return asked;
    const train::Objective& objective = settings.options.train.objective;
    if (settings.is_on_policy || !train::uses_teacher(objective)) {
        if (!is_its_own) return RecipeCache{};
        return own.error_at(
            "cache",
            settings.is_on_policy
                ? fmt::format("{} asks about what the student says as it trains, which no cache holds: leave "
                              "it out, or write \"none\"",
                              settings.objective)
                : fmt::format("{} learns the text alone and reads no cache: leave it out, or take fkl",
                              settings.objective));
    }
    const bool draws_serve =
        tensor::effective_kind(train::loss_weights(objective)) == tensor::Divergence::fkl;
    if (asked.encoding == data::CacheEncoding::samples && !draws_serve) {
        return own.error_at("cache",
                            fmt::format("\"samples\" gives fkl without bias, and no other objective; for "
                                        "{} write \"top-k\", or \"none\" for the live teacher",
                                        settings.objective));
    }
    return asked;
}

double cache_temperature(const RecipeCache& cache, const DistillSettings& settings) {
    return cache.encoding == data::CacheEncoding::samples ? settings.options.train.objective.temperature
                                                          : 1.0;
}

std::string cache_name(const RecipeCache& cache, const DistillSettings& settings, bool answers_only) {
    std::string name = fmt::format("cache-{}-{}", data::encoding_name(cache.encoding), cache.count);
    if (const double temperature = cache_temperature(cache, settings); temperature != 1)
        name += fmt::format("-t{:g}", temperature);
    if (settings.dtype != "auto") name += "-" + settings.dtype;
    return name + (answers_only ? "-answers" : "");
}

}  // namespace retort::cli
