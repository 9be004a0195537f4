// retort cache make|show: what is kept of a teacher's distribution, for many students to train from.
#include <fmt/format.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "train/cache_report.h"
#include "train/make_cache.h"

namespace retort::cli {

namespace {

struct CacheOptions {
    train::CacheOptions cache;
    std::string teacher;
    std::string records;
    std::string output;
    std::string encoding = "samples";
    std::string dtype = "auto";
    std::int64_t count = 0;
    std::string folder;
    std::string tokenizer;
};

Status show(const std::string& folder, bool json) {
    RETORT_TRY(const data::LogitCache cache, data::LogitCache::open(folder, true));
    const data::CacheHeader& header = cache.header();
    const data::CacheSummary& summary = cache.summary();
    if (json) {
        fmt::print("{}\n", train::cache_json(header, summary).dump(2));
        return {};
    }
    const bool samples = header.encoding == data::CacheEncoding::samples;
    fmt::print("{}: {} of {} ({}), {}\n", folder,
               samples ? fmt::format("{} draws a token", header.count)
                       : fmt::format("top {} with a tail", header.count),
               header.teacher, header.source, summary.complete ? "complete" : "NOT COMPLETE");
    fmt::print("  {} records, {} tokens, {:.1f} ids a token\n", summary.records, summary.tokens,
               static_cast<double>(summary.entries) /
                   static_cast<double>(std::max<std::int64_t>(1, summary.tokens)));
    fmt::print("  {} ({:.1f} bytes a token; dense f32 would be {})\n",
               base::bytes_text(static_cast<double>(summary.file_bytes)), summary.bytes_per_token(),
               4 * header.vocab_size);
    if (samples) {
        fmt::print("  entropy of the teacher: {:.3f} nats a token\n", summary.entropy);
    } else {
        fmt::print("  mass of the kept ids: {:.4f}, so {:.4f} in the tail\n", summary.kept_mass,
                   1 - summary.kept_mass);
        fmt::print("  KL within the tail, which the cache does not know: at most {:.4f} nats a token\n",
                   summary.tail_kl_bound);
        if (summary.unknown > 0)
            fmt::print("  nothing is known of {} tokens: the written token alone is trained there (ce)\n",
                       summary.unknown);
    }
    fmt::print("  temperature {:g}, vocabulary {}, teacher {:.12}, tokenizer {:.12}\n", header.temperature,
               header.vocab_size, header.teacher_sha256, header.tokenizer_sha256);
    return {};
}

Status from_logprobs(CacheOptions& options, const CommonOptions& common) {
    if (options.count == 0) options.cache.count = 20;  // what APIs give at most
    RETORT_TRY(const auto tokenizer, resolve_model(options.tokenizer));
    RETORT_TRY(const train::LogprobCache made, train::make_logprob_cache(options.cache, tokenizer));
    const data::AlignmentSums& sums = made.alignment;
    if (sums.tokens > 0) {
        const double aligned = static_cast<double>(std::max<std::int64_t>(1, sums.aligned));
        spdlog::info(
            "cache: {} of {} tokens aligned; of the {:.4f} of mass listed at these, {:.4f} mapped; "
            "{} records not aligned",
            sums.aligned, sums.tokens, sums.listed / aligned, sums.mapped / aligned, made.unaligned_records);
    }
    return show(options.output, common.json);
}

Status make(CacheOptions& options, const CommonOptions& common) {
    train::CacheOptions& cache = options.cache;
    RETORT_TRY(cache.encoding, data::encoding_from_name(options.encoding));
    if (options.dtype != "auto" && options.dtype != "f32" && options.dtype != "bf16") {
        return fail(ErrorCode::invalid_argument, "dtype \"{}\" is not known; use auto, f32 or bf16",
                    options.dtype);
    }
    cache.auto_dtype = options.dtype == "auto";
    cache.bf16 = options.dtype == "bf16";
    cache.count = options.count > 0 ? options.count : train::usual_count(cache.encoding);
    cache.records = options.records;
    cache.output = options.output;
    cache.quiet = common.quiet;
    if (options.teacher.empty() == options.tokenizer.empty()) {
        return fail(ErrorCode::invalid_argument,
                    "give --teacher for its weights, or --from-logprobs with the student's model for the "
                    "logprobs in the records");
    }
    if (!options.tokenizer.empty()) return from_logprobs(options, common);
    RETORT_TRY(cache.teacher, resolve_model(options.teacher));
    RETORT_CHECK(train::make_logit_cache(cache).map([](const data::CacheSummary&) {}));
    return show(options.output, common.json);
}

}  // namespace

void add_cache(Commands& commands) {
    CLI::App& cache = commands.add(
        Group::training, "cache", "keep a teacher's distribution, for many students to train from",
        {"retort cache make --teacher smollm2 --records curated/train.jsonl --output cache",
         "retort distill --cache cache --student start --records curated/train.jsonl --output student"},
        [](const CommonOptions&) -> Status { return {}; });
    auto options = std::make_shared<CacheOptions>();
    CLI::App& making = commands.add_nested(
        cache, "make", "read every record with the teacher once, and keep what distilling needs",
        {"retort cache make --teacher smollm2 --records curated/train.jsonl --output cache",
         "retort cache make --teacher smollm2 --records curated/train.jsonl --encoding top-k --output top64"},
        [options](const CommonOptions& common) { return make(*options, common); });
    making.add_option("--teacher", options->teacher,
                      "its weights: a GGUF file, a folder, or a name under models/");
    making.add_option(
        "--from-logprobs", options->tokenizer,
        "in place of a teacher's weights: the logprobs in the records, aligned by bytes to the ids "
        "of this model");
    making.add_option("--records", options->records, "curated records, JSON lines")->required();
    making.add_option("--output", options->output, "the cache's folder; an interrupted run goes on in it")
        ->required();
    making
        .add_option("--encoding", options->encoding,
                    "samples (draws from the distribution: fkl without bias, small) or top-k (the largest "
                    "probabilities and a tail: any objective)")
        ->capture_default_str();
    making
        .add_option("--count", options->count,
                    "draws a token, up to 4096, or ids kept, up to 255 (default: 85 draws, 64 ids)")
        ->check(CLI::Range(1, 4096));
    making.add_option("--temperature", options->cache.temperature, "of the distribution that is kept")
        ->check(CLI::Range(0.001, 1000.0))
        ->capture_default_str();
    making.add_option("--seed", options->cache.seed, "of the draws")->capture_default_str();
    making
        .add_option("--row-length", options->cache.row_length, "tokens of the longest record, as in distill")
        ->check(CLI::Range(16, 131072))
        ->capture_default_str();
    making.add_option("--dtype", options->dtype, "of products: auto, f32 or bf16")->capture_default_str();
    commands.add_json_option(making);
    CLI::App& showing = commands.add_nested(
        cache, "show", "verify a cache, and say what is in it", {"retort cache show cache"},
        [options](const CommonOptions& common) { return show(options->folder, common.json); });
    showing.add_option("folder", options->folder, "of the cache")->required();
    commands.add_json_option(showing);
}

}  // namespace retort::cli
