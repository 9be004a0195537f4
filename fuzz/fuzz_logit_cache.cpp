// part: data
// A logit cache: whatever the bytes, what is accepted decodes again to the same entries.
#include <cstdlib>
#include <span>
#include <string_view>

#include "data/logit_cache.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort::data;
    const auto bytes = std::as_bytes(std::span(data, size));
    (void)LogitCache::parse(bytes, false);
    const auto cache = LogitCache::parse(bytes, true);
    if (cache && cache->summary().tokens < 0) std::abort();
    // The entries too, without a checksum to stop the fuzzer.
    if (size < 2) return 0;
    CacheHeader header;
    header.encoding = (data[0] & 1U) != 0 ? CacheEncoding::top_k : CacheEncoding::samples;
    header.vocab_size = (data[0] & 2U) != 0 ? 100000 : 300;
    header.count = data[1] == 0 ? 50 : data[1];
    const std::string_view entries(reinterpret_cast<const char*>(data) + 2, size - 2);
    for (const std::int64_t tokens : {1, 3}) {
        TokenEntries decoded;
        if (!decode_entries(header, entries, tokens, decoded)) continue;
        if (decoded.tokens() != tokens || decoded.values.size() != decoded.ids.size() ||
            static_cast<std::size_t>(decoded.starts.back()) != decoded.ids.size()) {
            std::abort();
        }
        for (const std::int32_t id : decoded.ids) {
            if (id < 0 || id >= header.vocab_size) std::abort();
        }
    }
    return 0;
}
