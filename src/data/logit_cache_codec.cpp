// The bytes of entries (docs/formats/logit_cache.md).
#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "data/bit_stream.h"
#include "data/logit_cache.h"

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

// Bits of a Rice code for the way from one drawn id to the next, `left` of which are still to come.
// Vocabularies are in order of frequency, more or less, so that ids lie closer at their beginning: about (id
// + V/12) / left apart, and evenly where that is more than is left of them. On SmolLM2's distributions that
// is within 0.2 bits an id of what their frequencies would allow.
int gap_width(std::int64_t from, std::int64_t left, std::int64_t vocab_size) {
    const std::int64_t apart = std::min(from + vocab_size / 12, 2 * (vocab_size - from)) / left;
    return std::max(0, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(apart))) - 1);
}

// Entropies in 4,095 equal steps up to that of an even distribution.
constexpr int entropy_width = 12;
constexpr double entropy_steps = 4095;

std::uint32_t entropy_code(float entropy, std::int64_t vocab_size) {
    const double most = std::log(static_cast<double>(vocab_size));
    const double share = most > 0 ? static_cast<double>(entropy) / most : 0.0;
    return static_cast<std::uint32_t>(std::lround(std::clamp(share, 0.0, 1.0) * entropy_steps));
}

float entropy_of(std::uint32_t code, std::int64_t vocab_size) {
    return static_cast<float>(code / entropy_steps * std::log(static_cast<double>(vocab_size)));
}

int draws_width(const CacheHeader& header) {
    return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(header.count - 1)));
}

void encode_samples(const CacheHeader& header, const TokenEntries& entries, std::size_t token,
                    BitWriter& bits) {
    const auto begin = static_cast<std::size_t>(entries.starts[token]);
    const auto end = static_cast<std::size_t>(entries.starts[token + 1]);
    std::vector<std::pair<std::int32_t, std::uint32_t>> drawn;  // id, count
    for (std::size_t i = begin; i < end; ++i) {
        const auto count = std::lround(entries.values[i] * static_cast<float>(header.count));
        drawn.emplace_back(entries.ids[i], static_cast<std::uint32_t>(count));
    }
    std::sort(drawn.begin(), drawn.end());
    bits.fixed(entropy_code(entries.entropies[token], header.vocab_size), entropy_width);
    bits.fixed(static_cast<std::uint32_t>(drawn.size() - 1), draws_width(header));
    std::int64_t from = 0;
    std::int64_t draws = header.count;
    auto left = static_cast<std::int64_t>(drawn.size());
    for (const auto& [id, count] : drawn) {
        bits.rice(static_cast<std::uint32_t>(id - from), gap_width(from, left, header.vocab_size));
        // What the others leave of N says the last, and all that follow where there is a draw for each.
        if (left > 1 && draws > left) bits.gamma(count);
        draws -= count;
        --left;
        from = id + std::int64_t{1};
    }
}

Status decode_samples(const CacheHeader& header, BitReader& bits, std::int64_t token, TokenEntries& entries) {
    entries.entropies.push_back(entropy_of(bits.fixed(entropy_width), header.vocab_size));
    entries.tails.push_back(0.0F);
    const std::int64_t kept = std::int64_t{bits.fixed(draws_width(header))} + 1;
    if (kept > header.count) return damaged(token, "more ids than draws");
    thread_local std::vector<std::pair<std::int64_t, std::int32_t>> drawn;  // (−count, id)
    drawn.clear();
    std::int64_t from = 0;
    std::int64_t draws = header.count;
    for (std::int64_t left = kept; left > 0; --left) {
        const auto gap = bits.rice(gap_width(from, left, header.vocab_size));
        if (bits.ran_out()) return damaged(token, "they end too early");
        if (gap >= static_cast<std::uint64_t>(header.vocab_size - from))
            return damaged(token, fmt::format("an id is outside the vocabulary of {}", header.vocab_size));
        const std::int64_t id = from + static_cast<std::int64_t>(gap);
        from = id + 1;
        const std::int64_t count = left == 1 ? draws : draws > left ? std::int64_t{bits.gamma()} : 1;
        draws -= count;
        if (count < 1) return damaged(token, fmt::format("its draws do not add up to {}", header.count));
        if (left > 1 && from >= header.vocab_size)
            return damaged(token, fmt::format("an id is outside the vocabulary of {}", header.vocab_size));
        drawn.emplace_back(-count, static_cast<std::int32_t>(id));
    }
    if (bits.ran_out()) return damaged(token, "they end too early");
    std::sort(drawn.begin(), drawn.end());
    for (const auto& [count, id] : drawn) {
        entries.ids.push_back(id);
        entries.values.push_back(static_cast<float>(-count) / static_cast<float>(header.count));
    }
    entries.starts.push_back(static_cast<std::int64_t>(entries.ids.size()));
    return {};
}

Status decode_top(const CacheHeader& header, Reader& reader, std::int64_t token, TokenEntries& entries) {
    const std::size_t kept = reader.byte();
    const std::size_t begin = entries.ids.size();
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
    if (reader.ran_out()) return damaged(token, "they end too early");
    // Each code is within 2^(1/4096) of its probability.
    constexpr double allowed = 1.001;
    if (!(mass < allowed)) return damaged(token, "probabilities add up to more than 1");
    const auto ids = std::span(entries.ids).subspan(begin);
    if (std::any_of(ids.begin(), ids.end(), [&](std::int32_t id) { return id >= header.vocab_size; }))
        return damaged(token, fmt::format("an id is outside the vocabulary of {}", header.vocab_size));
    if (!distinct(ids)) return damaged(token, "an id comes twice");
    entries.starts.push_back(static_cast<std::int64_t>(entries.ids.size()));
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
    const auto tokens = static_cast<std::size_t>(entries.tokens());
    if (header.encoding == CacheEncoding::samples) {
        BitWriter bits;
        for (std::size_t t = 0; t < tokens; ++t) encode_samples(header, entries, t, bits);
        return bits.take();
    }
    std::string bytes;
    for (std::size_t t = 0; t < tokens; ++t) {
        const auto begin = static_cast<std::size_t>(entries.starts[t]);
        const auto end = static_cast<std::size_t>(entries.starts[t + 1]);
        bytes.push_back(static_cast<char>(end - begin));
        for (std::size_t i = begin; i < end; ++i) put_id(bytes, entries.ids[i], header.vocab_size);
        for (std::size_t i = begin; i < end; ++i) put_u16(bytes, probability_code(entries.values[i]));
        put_u16(bytes, probability_code(entries.tails[t]));
    }
    return bytes;
}

Status decode_entries(const CacheHeader& header, std::string_view bytes, std::int64_t tokens,
                      TokenEntries& entries) {
    bool whole = false;
    if (header.encoding == CacheEncoding::samples) {
        BitReader bits(bytes);
        for (std::int64_t t = 0; t < tokens; ++t) RETORT_CHECK(decode_samples(header, bits, t, entries));
        whole = bits.at_end();
    } else {
        Reader reader(bytes);
        for (std::int64_t t = 0; t < tokens; ++t) RETORT_CHECK(decode_top(header, reader, t, entries));
        whole = reader.at_end();
    }
    if (!whole) return fail(ErrorCode::format, "entries of more than {} tokens", tokens);
    return {};
}

}  // namespace retort::data
