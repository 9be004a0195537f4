// part: data
// A logit cache: whatever the bytes, what is accepted is written again the same.
#include <array>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "data/logit_cache.h"

namespace {

using namespace retort;

void check(const Result<data::LogitCache>& cache) {
    if (cache && (cache->summary().tokens < 0 || cache->summary().records < 0)) std::abort();
}

// Frames without their checksums, which would stop the fuzzer: two bytes of length and so many of payload.
std::string journal_of(std::string_view frames) {
    std::string journal = "RTJRNL01";
    while (frames.size() > 2) {
        const std::size_t length = static_cast<unsigned char>(frames[0]) |
                                   static_cast<std::size_t>(static_cast<unsigned char>(frames[1])) << 8U;
        const std::string_view payload = frames.substr(2, length);
        const auto size = static_cast<std::uint32_t>(payload.size());
        const std::uint64_t sum = base::xxh3_64(payload, size);
        journal.append(reinterpret_cast<const char*>(&size), sizeof size);
        journal.append(reinterpret_cast<const char*>(&sum), sizeof sum);
        journal += payload;
        frames.remove_prefix(2 + payload.size());
    }
    return journal;
}

// The entries of a record alone, under a header that the first two bytes choose.
void check_entries(const std::uint8_t* bytes, std::size_t size) {
    constexpr std::array<std::int64_t, 8> vocabularies = {300,   100000, 1,      2,
                                                          65536, 65537,  151936, std::int64_t{1} << 24U};
    data::CacheHeader header;
    header.encoding = (bytes[0] & 1U) != 0 ? data::CacheEncoding::top_k : data::CacheEncoding::samples;
    header.vocab_size = vocabularies[bytes[0] >> 1U & 7U];
    header.count = bytes[1] == 0 ? 50 : bytes[1];
    if (header.encoding == data::CacheEncoding::samples && (bytes[0] & 16U) != 0) header.count *= 16;
    const std::string_view entries(reinterpret_cast<const char*>(bytes) + 2, size - 2);
    for (const std::int64_t tokens : {1, 3}) {
        data::TokenEntries decoded;
        if (!data::decode_entries(header, entries, tokens, decoded)) continue;
        if (decoded.tokens() != tokens || decoded.values.size() != decoded.ids.size() ||
            static_cast<std::size_t>(decoded.starts.back()) != decoded.ids.size()) {
            std::abort();
        }
        for (const std::int32_t id : decoded.ids) {
            if (id < 0 || id >= header.vocab_size) std::abort();
        }
        // A vocabulary of one has no entropy, whatever its steps say.
        if (header.vocab_size > 1 && data::encode_entries(header, decoded) != entries) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const auto all = std::as_bytes(std::span(bytes, size));
    check(data::LogitCache::parse(all, false));
    check(data::LogitCache::parse(all, true));
    const std::string journal = journal_of({reinterpret_cast<const char*>(bytes), size});
    check(data::LogitCache::parse(std::as_bytes(std::span(journal)), true));
    if (size >= 2) check_entries(bytes, size);
    return 0;
}
