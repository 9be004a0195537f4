#include "train/cached_targets.h"

namespace retort::train {

Result<CachedTargets> CachedTargets::open(const std::filesystem::path& folder,
                                          std::span<const data::Example> examples,
                                          std::string_view tokenizer_sha256,
                                          std::string_view teacher_sha256) {
    RETORT_TRY(data::LogitCache cache, data::LogitCache::open(folder));
    const data::CacheHeader& header = cache.header();
    if (header.tokenizer_sha256 != tokenizer_sha256) {
        return fail(ErrorCode::invalid_argument,
                    "{}: the cache was made for another tokenizer than the student's; make one with a "
                    "teacher that shares it",
                    folder.string());
    }
    if (!teacher_sha256.empty() && header.teacher_sha256 != teacher_sha256) {
        return fail(ErrorCode::invalid_argument,
                    "{}: the cache is of another teacher ({}); make one of this teacher, or leave --teacher "
                    "out",
                    folder.string(), header.teacher);
    }
    CachedTargets targets(std::move(cache));
    for (const data::Example& example : examples) {
        const auto bytes = targets.cache_.find(example);
        if (!bytes) return fail_from(bytes.error(), folder.string());
        targets.parts_.push_back({*bytes, data::trained_targets(example)});
    }
    return targets;
}

Status CachedTargets::check(const Objective& objective) const {
    if (!uses_teacher(objective)) return {};
    const data::CacheHeader& cache = header();
    const bool same_temperature = cache.temperature == objective.temperature;
    if (cache.encoding == data::CacheEncoding::samples) {
        if (tensor::effective_kind(loss_weights(objective)) != tensor::Divergence::fkl) {
            return fail(ErrorCode::invalid_argument,
                        "a cache of draws gives fkl without bias, and no other objective; for {} use a top-k "
                        "cache or a live teacher",
                        objective_name(objective.kind));
        }
        if (!same_temperature) {
            return fail(ErrorCode::invalid_argument,
                        "the cache's draws are at temperature {:g} and the objective's is {:g}: they must be "
                        "the same",
                        cache.temperature, objective.temperature);
        }
        return {};
    }
    if (!same_temperature && cache.temperature != 1.0) {
        return fail(ErrorCode::invalid_argument,
                    "the cache is at temperature {:g} and the objective at {:g}: only a cache at 1 can be "
                    "tempered",
                    cache.temperature, objective.temperature);
    }
    return {};
}

tensor::SparseTargets CachedTargets::gather(std::span<const data::PackedBatch> rows,
                                            std::span<const std::int64_t> indices,
                                            data::TokenEntries& entries) const {
    entries = {};
    for (const std::int64_t index : indices) {
        for (const std::int32_t example : rows[static_cast<std::size_t>(index)].example_indices) {
            const Part& part = parts_[static_cast<std::size_t>(example)];
            // open() has read them all already.
            (void)data::decode_entries(header(), part.bytes, part.tokens, entries);
        }
    }
    return {entries.starts.data(),
            entries.ids.data(),
            entries.values.data(),
            header().encoding == data::CacheEncoding::samples,
            entries.entropies.data(),
            entries.tails.data(),
            static_cast<float>(header().temperature)};
}

}  // namespace retort::train
