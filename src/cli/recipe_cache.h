// A recipe's key by which students train from a logit cache and not from the live teacher: what it says,
// which objectives it can serve, and which variants share a cache. Knows nothing of how one is made.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "cli/distill_options.h"
#include "data/logit_cache.h"
#include "formats/recipe.h"

namespace retort::cli {

struct RecipeCache {
    bool used = false;  // false: the live teacher
    data::CacheEncoding encoding = data::CacheEncoding::samples;
    std::int64_t count = 0;  // 0: the encoding's usual number
};

// `cache` and `cache_count` of [distill] or of a variant; those absent keep what is `inherited`.
Result<RecipeCache> read_cache_keys(const formats::TomlTable& table, const RecipeCache& inherited);

// What the variant trains from: no cache where its objective asks for none and the key is not its own; an
// error where it cannot be had from one. `own`: the table that says `cache`, for the error's line.
Result<RecipeCache> cache_for(const formats::TomlTable& own, bool is_its_own, const DistillSettings& settings,
                              const RecipeCache& asked);

// Of its folder: "cache-samples-85". Variants of one name share the cache.
std::string cache_name(const RecipeCache& cache, const DistillSettings& settings, bool answers_only);
// The temperature at which it is made: draws are of the objective's own; the largest ids are tempered later.
double cache_temperature(const RecipeCache& cache, const DistillSettings& settings);

}  // namespace retort::cli
