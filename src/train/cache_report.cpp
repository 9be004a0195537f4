#include "train/cache_report.h"

namespace retort::train {

nlohmann::ordered_json cache_json(const data::CacheHeader& header, const data::CacheSummary& summary) {
    nlohmann::ordered_json json = {
        {"encoding", data::encoding_name(header.encoding)},
        {"count", header.count},
        {"temperature", header.temperature},
        {"vocab_size", header.vocab_size},
        {"seed", header.seed},
        {"source", header.source},
        {"teacher", header.teacher},
        {"teacher_sha256", header.teacher_sha256},
        {"tokenizer_sha256", header.tokenizer_sha256},
        {"complete", summary.complete},
        {"records", summary.records},
        {"tokens", summary.tokens},
        {"entries_per_token",
         summary.tokens == 0 ? 0.0
                             : static_cast<double>(summary.entries) / static_cast<double>(summary.tokens)},
        {"bytes", summary.file_bytes},
        {"bytes_per_token", summary.bytes_per_token()},
    };
    if (header.encoding == data::CacheEncoding::samples) {
        json["entropy"] = summary.entropy;
    } else {
        json["kept_mass"] = summary.kept_mass;
        json["tail_kl_bound"] = summary.tail_kl_bound;
        json["unknown_tokens"] = summary.unknown;
    }
    return json;
}

std::vector<std::pair<std::string, std::string>> cache_facts(const data::CacheHeader& header,
                                                             const data::CacheSummary& summary) {
    const bool samples = header.encoding == data::CacheEncoding::samples;
    std::vector<std::pair<std::string, std::string>> facts = {
        {"teacher's distribution from",
         fmt::format("a cache of {} ({}), {:.1f} bytes a token",
                     samples ? fmt::format("{} draws a token", header.count)
                             : fmt::format("the top {} with a tail", header.count),
                     header.teacher, summary.bytes_per_token())}};
    if (samples) {
        facts.emplace_back("teacher's entropy", fmt::format("{:.3f} nats a token", summary.entropy));
    } else {
        facts.emplace_back("top-k mass kept", fmt::format("{:.4f}", summary.kept_mass));
        facts.emplace_back("tail KL, at most", fmt::format("{:.4f} nats a token", summary.tail_kl_bound));
        if (summary.unknown > 0)
            facts.emplace_back("tokens of which nothing is known, trained by ce",
                               fmt::format("{} of {}", summary.unknown, summary.tokens));
    }
    return facts;
}

}  // namespace retort::train
