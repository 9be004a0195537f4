#include "data/logit_cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/hash.h"
#include "formats/json.h"

namespace retort::data {

namespace {

namespace fs = std::filesystem;
using formats::Json;

constexpr std::string_view journal_name = "logits.journal";
constexpr std::int64_t version = 3;
constexpr std::size_t most_id_bytes = 255;
constexpr std::size_t frame_header = 12;  // of the journal: length and checksum

// First byte of a frame.
constexpr char header_frame = 'H';
constexpr char record_frame = 'R';
constexpr char end_frame = 'E';

std::string header_text(const CacheHeader& header) {
    return formats::write_json(Json{{"version", version},
                                    {"encoding", encoding_name(header.encoding)},
                                    {"count", header.count},
                                    {"temperature", header.temperature},
                                    {"vocab_size", header.vocab_size},
                                    {"seed", header.seed},
                                    {"source", header.source},
                                    {"teacher", header.teacher},
                                    {"teacher_sha256", header.teacher_sha256},
                                    {"tokenizer_sha256", header.tokenizer_sha256}});
}

Status check_header(const CacheHeader& header) {
    const std::int64_t most = header.encoding == CacheEncoding::samples ? 4096 : 255;
    constexpr std::int64_t most_vocab = std::int64_t{1} << 24U;
    if (header.count < 1 || header.count > most)
        return fail(ErrorCode::invalid_argument, "{} entries or draws a token; a cache holds 1 to {}",
                    header.count, most);
    if (header.vocab_size < 1 || header.vocab_size > most_vocab)
        return fail(ErrorCode::invalid_argument, "a vocabulary of {}; a cache holds up to {}",
                    header.vocab_size, most_vocab);
    if (!(header.temperature > 0 && header.temperature <= 1000))
        return fail(ErrorCode::invalid_argument, "temperature {} is not above 0", header.temperature);
    return {};
}

Result<CacheHeader> header_from(std::string_view text) {
    RETORT_TRY(const Json json, formats::parse_json(text, "header"));
    if (!json.is_object()) return fail(ErrorCode::format, "its header is not an object");
    RETORT_TRY(const std::int64_t found, formats::json_integer(json, "version", 0));
    if (found != version) {
        return fail(ErrorCode::unsupported, "version {} of the format; this program reads {}", found,
                    version);
    }
    CacheHeader header;
    RETORT_TRY(const std::string encoding, formats::json_string(json, "encoding"));
    RETORT_TRY(header.encoding, encoding_from_name(encoding));
    RETORT_TRY(header.count, formats::json_integer(json, "count", 0));
    RETORT_TRY(header.temperature, formats::json_number(json, "temperature", 0.0));
    RETORT_TRY(header.vocab_size, formats::json_integer(json, "vocab_size", 0));
    const Json* const seed = formats::json_find(json, "seed");  // all 64 bits of it, unlike json_integer
    if (seed == nullptr || !seed->is_number_unsigned())
        return fail(ErrorCode::format, "its header's seed is not a whole number");
    header.seed = seed->get<std::uint64_t>();
    RETORT_TRY(header.source, formats::json_string(json, "source"));
    RETORT_TRY(header.teacher, formats::json_string(json, "teacher"));
    RETORT_TRY(header.teacher_sha256, formats::json_string(json, "teacher_sha256"));
    RETORT_TRY(header.tokenizer_sha256, formats::json_string(json, "tokenizer_sha256"));
    RETORT_CHECK(check_header(header));
    return header;
}

// A record's frame: 'R', length of the id, id, u64 example hash, u32 tokens, entries.
struct RecordFrame {
    std::string id;
    std::uint64_t example = 0;
    std::int64_t tokens = 0;
    std::string_view entries;
};

Result<RecordFrame> record_from(std::string_view frame) {
    constexpr std::size_t fixed = 12;
    const std::size_t id_bytes = frame.size() < 2 ? 0 : static_cast<unsigned char>(frame[1]);
    if (frame.size() < 2 + id_bytes + fixed)
        return fail(ErrorCode::format, "a record's frame of {} bytes is too short", frame.size());
    RecordFrame record;
    record.id = frame.substr(2, id_bytes);
    std::uint32_t tokens = 0;
    std::memcpy(&record.example, frame.data() + 2 + id_bytes, 8);
    std::memcpy(&tokens, frame.data() + 2 + id_bytes + 8, 4);
    record.tokens = tokens;
    record.entries = frame.substr(2 + id_bytes + fixed);
    // A token's entries are more than a byte; what claims more is not worth the memory.
    if (record.entries.size() < static_cast<std::size_t>(tokens))
        return fail(ErrorCode::format, "record {}: {} tokens in {} bytes", record.id, tokens,
                    record.entries.size());
    return record;
}

}  // namespace

std::string_view encoding_name(CacheEncoding encoding) {
    return encoding == CacheEncoding::samples ? "samples" : "top-k";
}

Result<CacheEncoding> encoding_from_name(std::string_view name) {
    if (name == "samples") return CacheEncoding::samples;
    if (name == "top-k") return CacheEncoding::top_k;
    return fail(ErrorCode::invalid_argument, "encoding \"{}\" is not known; use samples or top-k", name);
}

std::uint64_t example_hash(const Example& example) {
    return base::xxh3_64(std::as_bytes(std::span(example.trained)),
                         base::xxh3_64(std::as_bytes(std::span(example.tokens))));
}

std::int64_t trained_targets(const Example& example) {
    if (example.trained.empty()) return 0;
    return std::count(example.trained.begin() + 1, example.trained.end(), std::uint8_t{1});
}

Result<LogitCacheWriter> LogitCacheWriter::open(const fs::path& folder, const CacheHeader& header) {
    RETORT_CHECK(check_header(header));
    RETORT_CHECK(base::make_folders(folder));
    RETORT_TRY(base::FileLock lock, base::FileLock::acquire(folder / "lock"));
    std::unordered_map<std::string, std::uint64_t> records;
    bool complete = false;
    bool has_header = false;
    const fs::path path = folder / journal_name;
    const auto on_frame = [&](std::string_view frame) -> Status {
        if (frame.empty()) return fail(ErrorCode::format, "an empty frame");
        if (frame[0] == header_frame) {
            RETORT_TRY(const CacheHeader found, header_from(frame.substr(1)));
            has_header = true;
            if (found == header) return {};
            return fail(
                ErrorCode::invalid_argument,
                "this cache is of other settings ({} {}, teacher {}); use another folder, or delete it",
                encoding_name(found.encoding), found.count, found.teacher);
        }
        if (frame[0] == end_frame) complete = true;
        if (frame[0] != record_frame) return {};
        RETORT_TRY(const RecordFrame record, record_from(frame));
        records[record.id] = record.example;
        return {};
    };
    RETORT_TRY(base::Journal journal, base::Journal::open(path, on_frame));
    LogitCacheWriter writer(header, folder, std::move(lock), std::move(journal));
    writer.records_ = std::move(records);
    writer.complete_ = complete;
    if (!has_header) RETORT_CHECK(writer.journal_.append(header_frame + header_text(header)));
    return writer;
}

bool LogitCacheWriter::has(const Example& example) const {
    const auto found = records_.find(example.record_id);
    return found != records_.end() && found->second == example_hash(example);
}

Status LogitCacheWriter::append(const Example& example, const TokenEntries& entries) {
    if (complete_)
        return fail(ErrorCode::invalid_argument, "{}: the cache is complete; records are not added to it",
                    folder_.string());
    if (entries.tokens() != trained_targets(example) || example.record_id.size() > most_id_bytes) {
        return fail(ErrorCode::internal, "record {}: entries of {} tokens for {} targets", example.record_id,
                    entries.tokens(), trained_targets(example));
    }
    const std::uint64_t hash = example_hash(example);
    const auto tokens = static_cast<std::uint32_t>(entries.tokens());
    std::string frame{record_frame, static_cast<char>(example.record_id.size())};
    frame += example.record_id;
    frame.append(reinterpret_cast<const char*>(&hash), sizeof(hash));
    frame.append(reinterpret_cast<const char*>(&tokens), sizeof(tokens));
    frame += encode_entries(header_, entries);
    RETORT_CHECK(journal_.append(frame));
    records_[example.record_id] = hash;
    constexpr std::int64_t group = 64;
    if (++unsynced_ >= group) {
        unsynced_ = 0;
        return journal_.sync();
    }
    return {};
}

Result<CacheSummary> LogitCacheWriter::finish() {
    if (!complete_) {
        RETORT_CHECK(journal_.append(end_frame + formats::write_json(Json{{"records", records()}})));
        RETORT_CHECK(journal_.sync());
        complete_ = true;
    }
    RETORT_TRY(const LogitCache cache, LogitCache::open(folder_));
    return cache.summary();
}

Result<LogitCache> LogitCache::open(const fs::path& folder, bool partial) {
    const fs::path path = folder / journal_name;
    if (!fs::exists(path)) {
        return fail(ErrorCode::not_found, "{}: no logit cache; make one with `retort cache make`",
                    folder.string());
    }
    RETORT_TRY(base::MappedFile file, base::MappedFile::open(path));
    auto kept = std::make_shared<const base::MappedFile>(std::move(file));
    auto cache = parse(kept->bytes(), partial);
    if (!cache) return fail_from(cache.error(), path.string());
    cache->file_ = std::move(kept);
    return cache;
}

Result<LogitCache> LogitCache::parse(std::span<const std::byte> bytes, bool partial) {
    LogitCache cache;
    std::uint64_t valid = 0;
    const auto on_frame = [&](std::string_view frame) { return cache.add(frame); };
    RETORT_TRY(const base::JournalRecovery recovery, base::parse_journal(bytes, on_frame, &valid));
    CacheSummary& summary = cache.summary_;
    if (!cache.has_header_) return fail(ErrorCode::format, "it has no header");
    if (!partial && (!summary.complete || recovery.torn_bytes != 0)) {
        return fail(ErrorCode::invalid_argument,
                    "the cache is not complete ({} records so far); run the command that makes it again",
                    summary.records);
    }
    summary.file_bytes = static_cast<std::int64_t>(valid);
    const double tokens = static_cast<double>(std::max<std::int64_t>(1, summary.tokens));
    summary.kept_mass /= tokens;
    summary.entropy /= tokens;
    summary.tail_kl_bound /= tokens;
    return cache;
}

namespace {

// No probability of the tail is above the least one kept, so Σ p log(p·n/m) over the n ids of its mass m is
// at most m·log(least·n/m).
double tail_kl_bound(const TokenEntries& entries, std::int64_t token, std::int64_t vocab) {
    const auto at = static_cast<std::size_t>(token);
    const auto begin = entries.starts[at];
    const auto end = entries.starts[at + 1];
    const auto mass = static_cast<double>(entries.tails[at]);
    if (mass <= 0 || end == begin) return 0;
    const auto least = static_cast<double>(entries.values[static_cast<std::size_t>(end - 1)]);
    const auto others = static_cast<double>(vocab - (end - begin));
    return mass * std::log(std::max(1.0, least * others / mass));
}

}  // namespace

Status LogitCache::add(std::string_view frame) {
    if (frame.empty()) return fail(ErrorCode::format, "an empty frame");
    if (summary_.complete) return fail(ErrorCode::format, "something follows its end");
    if (frame[0] == header_frame) {
        if (has_header_) return fail(ErrorCode::format, "it has two headers");
        RETORT_TRY(header_, header_from(frame.substr(1)));
        has_header_ = true;
        return {};
    }
    if (!has_header_) return fail(ErrorCode::format, "it does not begin with a header");
    if (frame[0] == end_frame) {
        RETORT_TRY(const Json json, formats::parse_json(frame.substr(1), "end"));
        RETORT_TRY(const std::int64_t records, formats::json_integer(json, "records", -1));
        summary_.complete = true;
        if (records == summary_.records) return {};
        return fail(ErrorCode::format, "it has {} records where its end says {}", summary_.records, records);
    }
    if (frame[0] != record_frame) return fail(ErrorCode::format, "a frame of unknown kind");
    RETORT_TRY(const RecordFrame record, record_from(frame));
    TokenEntries entries;
    const Status decoded = decode_entries(header_, record.entries, record.tokens, entries);
    if (!decoded) return fail_from(decoded.error(), fmt::format("record {}", record.id));
    // A record that was made again under another template supersedes the earlier.
    Stored& stored = records_[record.id];
    if (stored.bytes.data() == nullptr) ++summary_.records;
    stored = {record.example, record.tokens, record.entries};
    summary_.tokens += record.tokens;
    summary_.entries += static_cast<std::int64_t>(entries.ids.size());
    for (const float tail : entries.tails) summary_.kept_mass += 1.0 - static_cast<double>(tail);
    if (header_.encoding == CacheEncoding::top_k) {
        for (std::int64_t t = 0; t < record.tokens; ++t) {
            summary_.tail_kl_bound += tail_kl_bound(entries, t, header_.vocab_size);
            const auto at = static_cast<std::size_t>(t);
            if (entries.starts[at] == entries.starts[at + 1]) ++summary_.unknown;
        }
    }
    for (const float entropy : entries.entropies) summary_.entropy += static_cast<double>(entropy);
    hash_ = base::xxh3_64(frame, hash_);
    return {};
}

Result<std::string_view> LogitCache::find(const Example& example) const {
    const auto found = records_.find(example.record_id);
    if (found == records_.end()) {
        return fail(ErrorCode::not_found, "record {} is not in the logit cache; make one for these records",
                    example.record_id);
    }
    if (found->second.example != example_hash(example) || found->second.tokens != trained_targets(example)) {
        return fail(ErrorCode::invalid_argument,
                    "record {}: the logit cache was made for other tokens of it (another template, tokenizer "
                    "or answer); make the cache again",
                    example.record_id);
    }
    return found->second.bytes;
}

}  // namespace retort::data
