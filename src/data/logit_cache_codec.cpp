// The bytes of entries (docs/formats/logit_cache.md).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/logit_cache.h"
#include "tensor/quantised.h"

namespace retort::data {

namespace {

constexpr double code_steps = 2048;         // of −log2 p
constexpr std::uint16_t zero_code = 65535;  // p = 0
constexpr std::int64_t two_byte_vocab = 65536;

void put_u16(std::string& to, std::uint16_t value) {
    to.push_back(static_cast<char>(value & 0xffU));
    to.push_back(static_cast<char>(value >> 8U));
}

void put_id(std::string& to, std::int32_t id, std::int64_t vocab_size) {
    const auto value = static_cast<std::uint32_t>(id);
    put_u16(to, static_cast<std::uint16_t>(value & 0xffffU));
    if (vocab_size > two_byte_vocab) to.push_back(static_cast<char>(value >> 16U));
}

std::uint16_t probability_code(float p) {
    if (!(p > 0)) return zero_code;
    const double code = std::round(-std::log2(static_cast<double>(p)) * code_steps);
    return static_cast<std::uint16_t>(std::clamp(code, 0.0, static_cast<double>(zero_code) - 1));
}

float probability(std::uint16_t code) {
    return code == zero_code ? 0.0F : static_cast<float>(std::exp2(-static_cast<double>(code) / code_steps));
}

// Reads on to the end, then fails once.
class Reader {
  public:
    explicit Reader(std::string_view bytes) : bytes_(bytes) {}
    std::uint32_t byte() {
        if (at_ >= bytes_.size()) {
            short_ = true;
            return 0;
        }
        return static_cast<unsigned char>(bytes_[at_++]);
    }
    std::uint16_t u16() {
        const std::uint32_t low = byte();
        return static_cast<std::uint16_t>(low | byte() << 8U);
    }
    std::int32_t id(std::int64_t vocab_size) {
        std::uint32_t value = u16();
        if (vocab_size > two_byte_vocab) value |= byte() << 16U;
        return static_cast<std::int32_t>(value);
    }
    [[nodiscard]] bool ran_out() const { return short_; }
    [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }

  private:
    std::string_view bytes_;
    std::size_t at_ = 0;
    bool short_ = false;
};

tl::unexpected<base::Error> damaged(std::int64_t token, std::string_view what) {
    return fail(ErrorCode::format, "entries of token {}: {}", token, what);
}

bool distinct(std::span<const std::int32_t> ids) {
    std::vector<std::int32_t> sorted(ids.begin(), ids.end());
    std::sort(sorted.begin(), sorted.end());
    return std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
}

Status decode_samples(const CacheHeader& header, Reader& reader, std::size_t kept, TokenEntries& entries,
                      std::int64_t token) {
    const std::size_t repeated = reader.byte();
    if (kept == 0 || repeated > kept) return damaged(token, "no draws, or more repeated ids than ids");
    for (std::size_t i = 0; i < kept; ++i) entries.ids.push_back(reader.id(header.vocab_size));
    std::vector<std::int64_t> counts(kept, 1);
    std::int64_t others = static_cast<std::int64_t>(kept) - 1;
    for (std::size_t i = 1; i < repeated; ++i) {
        counts[i] = reader.byte();
        if (counts[i] < 2) return damaged(token, "an id that was repeated counts less than 2");
        others += counts[i] - 1;
    }
    if (repeated > 0) counts[0] = header.count - others;
    for (const std::int64_t count : counts)
        entries.values.push_back(static_cast<float>(count) / static_cast<float>(header.count));
    entries.entropies.push_back(tensor::f16_to_f32(reader.u16()));
    entries.tails.push_back(0.0F);
    if (reader.ran_out()) return {};
    if (!std::isfinite(entries.entropies.back())) return damaged(token, "its entropy is not a number");
    // The first count is what the others leave of N.
    const std::int64_t least = repeated > 1 ? counts[1] : repeated == 1 ? 2 : 1;
    if (counts[0] < least || others + counts[0] != header.count) {
        return damaged(token, fmt::format("{} draws beside its first id's, of {}", others, header.count));
    }
    return {};
}

Status decode_top(const CacheHeader& header, Reader& reader, std::size_t kept, TokenEntries& entries,
                  std::int64_t token) {
    if (static_cast<std::int64_t>(kept) > header.count) return damaged(token, "more ids than are kept");
    for (std::size_t i = 0; i < kept; ++i) entries.ids.push_back(reader.id(header.vocab_size));
    double mass = 0;
    for (std::size_t i = 0; i < kept; ++i) {
        entries.values.push_back(probability(reader.u16()));
        mass += static_cast<double>(entries.values.back());
    }
    entries.tails.push_back(probability(reader.u16()));
    entries.entropies.push_back(0.0F);
    mass += static_cast<double>(entries.tails.back());
    // Each code is within 2^(1/4096) of its probability.
    constexpr double allowed = 1.001;
    if (!reader.ran_out() && !(mass < allowed)) return damaged(token, "probabilities add up to more than 1");
    return {};
}

}  // namespace

void TokenEntries::append(const TokenEntries& other) {
    const std::int64_t base = starts.back();
    for (std::size_t i = 1; i < other.starts.size(); ++i) starts.push_back(base + other.starts[i]);
    ids.insert(ids.end(), other.ids.begin(), other.ids.end());
    values.insert(values.end(), other.values.begin(), other.values.end());
    tails.insert(tails.end(), other.tails.begin(), other.tails.end());
    entropies.insert(entropies.end(), other.entropies.begin(), other.entropies.end());
}

std::string encode_entries(const CacheHeader& header, const TokenEntries& entries) {
    std::string bytes;
    for (std::size_t t = 0; t + 1 < entries.starts.size(); ++t) {
        const auto begin = static_cast<std::size_t>(entries.starts[t]);
        const auto end = static_cast<std::size_t>(entries.starts[t + 1]);
        bytes.push_back(static_cast<char>(end - begin));
        if (header.encoding == CacheEncoding::top_k) {
            for (std::size_t i = begin; i < end; ++i) put_id(bytes, entries.ids[i], header.vocab_size);
            for (std::size_t i = begin; i < end; ++i) put_u16(bytes, probability_code(entries.values[i]));
            put_u16(bytes, probability_code(entries.tails[t]));
            continue;
        }
        std::string counts;
        for (std::size_t i = begin; i < end; ++i) {
            const auto count = std::lround(entries.values[i] * static_cast<float>(header.count));
            if (count > 1) counts.push_back(static_cast<char>(count));  // descending: the ones come last
        }
        bytes.push_back(static_cast<char>(counts.size()));
        if (!counts.empty()) counts.erase(0, 1);  // what the others leave of N
        for (std::size_t i = begin; i < end; ++i) put_id(bytes, entries.ids[i], header.vocab_size);
        bytes += counts;
        put_u16(bytes, tensor::f32_to_f16(entries.entropies[t]));
    }
    return bytes;
}

Status decode_entries(const CacheHeader& header, std::string_view bytes, std::int64_t tokens,
                      TokenEntries& entries) {
    Reader reader(bytes);
    for (std::int64_t t = 0; t < tokens; ++t) {
        const std::size_t kept = reader.byte();
        const std::size_t begin = entries.ids.size();
        RETORT_CHECK(header.encoding == CacheEncoding::samples
                         ? decode_samples(header, reader, kept, entries, t)
                         : decode_top(header, reader, kept, entries, t));
        if (reader.ran_out()) return damaged(t, "they end too early");
        const auto ids = std::span(entries.ids).subspan(begin);
        if (std::any_of(ids.begin(), ids.end(), [&](std::int32_t id) { return id >= header.vocab_size; })) {
            return damaged(t, fmt::format("an id is outside the vocabulary of {}", header.vocab_size));
        }
        if (!distinct(ids)) return damaged(t, "an id comes twice");
        entries.starts.push_back(static_cast<std::int64_t>(entries.ids.size()));
    }
    if (!reader.at_end()) return fail(ErrorCode::format, "entries of more than {} tokens", tokens);
    return {};
}

}  // namespace retort::data
