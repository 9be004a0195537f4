#include "text/unicode.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace retort::text {
namespace {

constexpr std::uint32_t runs[] = {
#include "text/unicode_tables.inc"
};
constexpr std::size_t run_count = std::size(runs);
constexpr char32_t point_count = 0x110000;
constexpr std::uint32_t point_mask = 0x1FFFFF;

char32_t run_start(std::size_t run) {
    return run < run_count ? runs[run] & point_mask : point_count;
}

std::uint16_t run_value(std::size_t run) {
    return static_cast<std::uint16_t>(runs[run] >> 21U);
}

// Bytes that continue a character, after a lead byte and with the second byte's stricter range (Unicode's
// table 3-7). Returns how many of the bytes from `at` belong to one well-formed character, or, when it is
// not one, sets `broken` and returns how many belong to the longest beginning of one (at least 1).
std::size_t sequence_length(std::string_view text, std::size_t at, bool& broken, bool& reached_end) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned first = byte(at);
    broken = false;
    reached_end = false;
    if (first < 0x80) return 1;
    std::size_t length = 0;
    unsigned low = 0x80;
    unsigned high = 0xBF;
    if (first >= 0xC2 && first <= 0xDF) {
        length = 2;
    } else if (first >= 0xE0 && first <= 0xEF) {
        length = 3;
        if (first == 0xE0) low = 0xA0;
        if (first == 0xED) high = 0x9F;
    } else if (first >= 0xF0 && first <= 0xF4) {
        length = 4;
        if (first == 0xF0) low = 0x90;
        if (first == 0xF4) high = 0x8F;
    } else {
        broken = true;
        return 1;
    }
    for (std::size_t i = 1; i < length; ++i) {
        if (at + i >= text.size()) {
            broken = true;
            reached_end = true;
            return i;
        }
        if (byte(at + i) < low || byte(at + i) > high) {
            broken = true;
            return i;
        }
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

// End of the run of ASCII bytes from `at`.
std::size_t skip_ascii(std::string_view text, std::size_t at) {
    while (at + 8 <= text.size()) {
        std::uint64_t word = 0;
        std::memcpy(&word, text.data() + at, 8);
        if ((word & 0x8080808080808080U) != 0) break;
        at += 8;
    }
    while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
    return at;
}

}  // namespace

bool is_white_space(char32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

CharacterTable::CharacterTable() {
    // Blocks of 256 that lie within one run share a row.
    std::vector<int> uniform(1024, -1);
    std::size_t run = 0;
    for (char32_t block = 0; block < block_.size(); ++block) {
        const char32_t begin = block << 8U;
        while (run_start(run + 1) <= begin) ++run;
        const bool single = run_start(run + 1) >= begin + 256 && block > 0x30;
        const std::uint16_t value = run_value(run) & 1023U;
        if (single && uniform[value] >= 0) {
            block_[block] = static_cast<std::uint16_t>(uniform[value]);
            continue;
        }
        block_[block] = static_cast<std::uint16_t>(values_.size());
        if (single) uniform[value] = static_cast<int>(values_.size());
        auto& row = values_.emplace_back();
        std::size_t at_run = run;
        for (char32_t i = 0; i < 256; ++i) {
            while (run_start(at_run + 1) <= begin + i) ++at_run;
            row[i] = static_cast<std::uint16_t>((run_value(at_run) & 1023U) |
                                                (is_white_space(begin + i) ? 1024U : 0U));
        }
    }
}

const CharacterTable& CharacterTable::get() {
    static const CharacterTable table;
    return table;
}

std::vector<std::pair<char32_t, char32_t>> CharacterTable::ranges(CategorySet set) {
    std::vector<std::pair<char32_t, char32_t>> result;
    for (std::size_t run = 0; run < run_count; ++run) {
        if (((set >> (run_value(run) & 31U)) & 1U) == 0) continue;
        const char32_t first = run_start(run);
        const char32_t last = run_start(run + 1) - 1;
        if (!result.empty() && result.back().second + 1 == first) {
            result.back().second = last;
        } else {
            result.emplace_back(first, last);
        }
    }
    return result;
}

Decoded decode_valid_before(std::string_view text, std::size_t end) {
    std::size_t at = end - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) --at;
    return decode_valid(text, at);
}

void append_utf8(std::string& out, char32_t point) {
    const auto put = [&](char32_t byte) {
        out.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    };
    if (point < 0x80) {
        put(point);
    } else if (point < 0x800) {
        put(0xC0U | (point >> 6U));
        put(0x80U | (point & 63U));
    } else if (point < 0x10000) {
        put(0xE0U | (point >> 12U));
        put(0x80U | ((point >> 6U) & 63U));
        put(0x80U | (point & 63U));
    } else {
        put(0xF0U | (point >> 18U));
        put(0x80U | ((point >> 12U) & 63U));
        put(0x80U | ((point >> 6U) & 63U));
        put(0x80U | (point & 63U));
    }
}

std::size_t valid_utf8_prefix(std::string_view text, bool* incomplete) {
    if (incomplete != nullptr) *incomplete = false;
    std::size_t at = 0;
    while (true) {
        at = skip_ascii(text, at);
        if (at >= text.size()) return text.size();
        bool broken = false;
        bool reached_end = false;
        const std::size_t length = sequence_length(text, at, broken, reached_end);
        if (broken) {
            if (incomplete != nullptr) *incomplete = reached_end;
            return at;
        }
        at += length;
    }
}

std::size_t ill_formed_length(std::string_view text) {
    bool broken = false;
    bool reached_end = false;
    return sequence_length(text, 0, broken, reached_end);
}

bool is_valid_utf8(std::string_view text) {
    return valid_utf8_prefix(text) == text.size();
}

void append_lossy_utf8(std::string& out, std::string_view text) {
    while (!text.empty()) {
        const std::size_t good = valid_utf8_prefix(text);
        out.append(text.substr(0, good));
        text.remove_prefix(good);
        if (text.empty()) return;
        text.remove_prefix(ill_formed_length(text));
        out.append("\xEF\xBF\xBD");
    }
}

std::string lossy_utf8(std::string_view text) {
    std::string out;
    out.reserve(text.size() + 8);
    append_lossy_utf8(out, text);
    return out;
}

}  // namespace retort::text
