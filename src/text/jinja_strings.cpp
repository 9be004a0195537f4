#include "text/jinja_strings.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

#include "text/jinja_writer.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

// Upper and lower case of one character; the few whose other case is several characters are spelled out.
void append_upper(std::string& out, char32_t c) {
    switch (c) {
        case 0xDF:
            out += "SS";
            return;
        case 0x149:
            out += "\xCA\xBCN";
            return;
        case 0xFB00:
            out += "FF";
            return;
        case 0xFB01:
            out += "FI";
            return;
        case 0xFB02:
            out += "FL";
            return;
        case 0xFB03:
            out += "FFI";
            return;
        case 0xFB04:
            out += "FFL";
            return;
        case 0xFB05:
        case 0xFB06:
            out += "ST";
            return;
        default:
            append_utf8(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
    }
}

void append_lower(std::string& out, char32_t c) {
    if (c == 0x130) {
        out += "i\xCC\x87";
    } else {
        append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
}

bool is_cased(char32_t c) {
    return CharacterTable::get().in(c, bit(Category::lu) | bit(Category::ll) | bit(Category::lt));
}

template <typename Visit>
void each_character(std::string_view text, const Visit& visit) {
    for (std::size_t at = 0; at < text.size();) {
        const Decoded c = decode_valid(text, at);
        visit(c.point);
        at += c.length;
    }
}

}  // namespace

bool is_python_space(char32_t c) {
    return is_white_space(c) || (c >= 0x1C && c <= 0x1F);
}

std::string_view strip(std::string_view text, std::optional<std::string_view> chars, bool left, bool right) {
    const auto wanted = [&](std::size_t at, const Decoded& c) {
        return chars ? chars->find(text.substr(at, c.length)) != std::string_view::npos
                     : is_python_space(c.point);
    };
    std::size_t begin = 0;
    std::size_t end = text.size();
    while (left && begin < end) {
        const Decoded c = decode_valid(text, begin);
        if (!wanted(begin, c)) break;
        begin += c.length;
    }
    while (right && end > begin) {
        const Decoded c = decode_valid_before(text, end);
        if (!wanted(end - c.length, c)) break;
        end -= c.length;
    }
    return text.substr(begin, end - begin);
}

std::vector<std::string_view> splitlines(std::string_view text, bool keep_ends) {
    std::vector<std::string_view> lines;
    std::size_t begin = 0;
    for (std::size_t at = 0; at < text.size();) {
        const Decoded c = decode_valid(text, at);
        const bool line_end = (c.point >= 0x0A && c.point <= 0x0D) || (c.point >= 0x1C && c.point <= 0x1E) ||
                              c.point == 0x85 || c.point == 0x2028 || c.point == 0x2029;
        if (!line_end) {
            at += c.length;
            continue;
        }
        std::size_t end = at + c.length;
        if (c.point == '\r' && end < text.size() && text[end] == '\n') ++end;
        lines.push_back(text.substr(begin, (keep_ends ? end : at) - begin));
        begin = at = end;
    }
    if (begin < text.size()) lines.push_back(text.substr(begin));
    return lines;
}

std::string to_upper(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    each_character(text, [&](char32_t c) { append_upper(out, c); });
    return out;
}

std::string to_lower(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    bool after_cased = false;
    for (std::size_t at = 0; at < text.size();) {
        const Decoded c = decode_valid(text, at);
        at += c.length;
        // A sigma that ends a word is ς.
        if (c.point == 0x3A3 && after_cased &&
            (at >= text.size() || !is_cased(decode_valid(text, at).point))) {
            append_utf8(out, 0x3C2);
        } else {
            append_lower(out, c.point);
        }
        after_cased = is_cased(c.point);
    }
    return out;
}

std::string to_title(std::string_view text) {
    std::string out;
    bool inside = false;
    each_character(text, [&](char32_t c) {
        if (inside) {
            append_lower(out, c);
        } else {
            append_utf8(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
        }
        inside = is_cased(c);
    });
    return out;
}

std::string capitalize(std::string_view text) {
    if (text.empty()) return {};
    const Decoded first = decode_valid(text, 0);
    std::string out;
    append_utf8(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(first.point))));
    return out + to_lower(text.substr(first.length));
}

std::size_t length_in_characters(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::size_t offset_of_character(std::string_view text, std::size_t index) {
    std::size_t at = 0;
    while (index > 0 && at < text.size()) {
        at += decode_valid(text, at).length;
        --index;
    }
    return at;
}

std::size_t find(std::string_view text, std::string_view needle, std::size_t from) {
    if (from > text.size()) return std::string_view::npos;
    if (needle.empty()) return from;
    const void* const found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
    if (found == nullptr) return std::string_view::npos;
    return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

Result<std::string> replace(std::string_view text, std::string_view from, std::string_view to,
                            std::int64_t count, std::size_t limit) {
    Writer out(limit);
    std::size_t done = 0;
    std::size_t search = 0;
    while (count != 0 && !out.full()) {
        const std::size_t at = find(text, from, search);
        if (at == std::string_view::npos) break;
        out.put(text.substr(done, at - done));
        out.put(to);
        done = at + from.size();
        search = done;
        if (from.empty()) {
            if (at >= text.size()) break;
            search = at + decode_valid(text, at).length;
        }
        --count;
    }
    out.put(text.substr(done));
    return out.take();
}

}  // namespace retort::text::jinja
