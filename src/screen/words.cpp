#include "screen/words.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <memory>

namespace retort::screen {

namespace {

// What a code point does to the word in the making.
enum : std::uint32_t {
    separates = 0,
    ignored = 1,
    decomposes = 2,            // ask utf8proc
    line_hyphen = 3,           // as if not there at the end of a line
    stands_alone = 1U << 31U,  // with a letter: begins a word of its own
    smallest_letter = 0x20,
};

constexpr std::uint32_t table_size = 0x3000;

bool has_no_spaces(char32_t c) {
    const auto in = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
    return in(0x0E00, 0x0EFF) || in(0x1000, 0x109F) || in(0x1780, 0x17FF) || in(0x2E80, 0x2FDF) ||
           in(0x3005, 0x3007) || in(0x3040, 0x30FF) || in(0x31F0, 0x31FF) || in(0x3400, 0x4DBF) ||
           in(0x4E00, 0x9FFF) || in(0xF900, 0xFAFF) || in(0x20000, 0x3FFFF);
}

constexpr bool is_letter_or_number(utf8proc_category_t category) {
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) ||
           (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}
constexpr bool is_mark(utf8proc_category_t category) {
    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

constexpr std::size_t most_decomposed = 32;  // Unicode's longest is 18

std::size_t decompose(char32_t c, std::array<utf8proc_int32_t, most_decomposed>& out) {
    constexpr auto options = static_cast<utf8proc_option_t>(UTF8PROC_COMPAT | UTF8PROC_CASEFOLD |
                                                            UTF8PROC_IGNORE | UTF8PROC_DECOMPOSE);
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), out.data(),
                                                           most_decomposed, options, &boundary);
    return count < 0 ? 0 : std::min(static_cast<std::size_t>(count), most_decomposed);
}

std::uint32_t classify(char32_t c) {
    // ' ` ’ ʼ and its relatives: written, left out and exchanged at will.
    if (c == U'\'' || c == U'`' || c == 0x2019 || c == 0x2018 || c == 0x02BC || c == 0x02B9 || c == 0x00B4 ||
        c == 0x2032 || c == 0xFF07) {
        return ignored;
    }
    if (c == U'-' || c == 0x2010 || c == 0x2011) return line_hyphen;
    std::array<utf8proc_int32_t, most_decomposed> parts{};
    const std::size_t count = decompose(c, parts);
    if (count == 0) return ignored;
    const std::uint32_t alone = has_no_spaces(c) ? stands_alone : 0U;
    if (count > 1) return decomposes;
    const auto category = utf8proc_category(parts[0]);
    if (is_mark(category)) return decomposes;
    if (!is_letter_or_number(category)) return separates;
    return static_cast<std::uint32_t>(parts[0]) | alone;
}

const std::array<std::uint32_t, table_size>& class_table() {
    static const auto table = [] {
        auto made = std::make_unique<std::array<std::uint32_t, table_size>>();
        for (std::uint32_t c = 0; c < table_size; ++c) (*made)[c] = classify(c);
        return made;
    }();
    return *table;
}

// 0 for a byte that begins no well-formed character.
std::uint32_t decode(std::string_view text, std::size_t at, char32_t& point) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const std::size_t left = text.size() - at;
    const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
    const unsigned char first = byte(0);
    if (first >= 0xC2 && first < 0xE0 && left >= 2 && follows(1)) {
        point = ((first & 31U) << 6U) | (byte(1) & 63U);
        return 2;
    }
    if (first >= 0xE0 && first < 0xF0 && left >= 3 && follows(1) && follows(2)) {
        point = ((first & 15U) << 12U) | ((byte(1) & 63U) << 6U) | (byte(2) & 63U);
        return point >= 0x800 && (point < 0xD800 || point > 0xDFFF) ? 3 : 0;
    }
    if (first >= 0xF0 && first < 0xF5 && left >= 4 && follows(1) && follows(2) && follows(3)) {
        point = ((first & 7U) << 18U) | ((byte(1) & 63U) << 12U) | ((byte(2) & 63U) << 6U) | (byte(3) & 63U);
        return point >= 0x10000 && point <= 0x10FFFF ? 4 : 0;
    }
    return 0;
}

class Splitter {
  public:
    Splitter(std::string_view text, Words& out) : text_(text), out_(out) {}

    void run() {
        std::size_t at = 0;
        while (at < text_.size()) {
            const auto byte = static_cast<unsigned char>(text_[at]);
            char32_t point = byte;
            std::uint32_t length = 1;
            if (byte >= 0x80) {
                length = decode(text_, at, point);
                if (length == 0) {
                    end_word();
                    ++at;
                    continue;
                }
            }
            const std::uint32_t what = point < table_size ? table_[point] : classify(point);
            const std::size_t next = at + length;
            if (what >= smallest_letter) {
                if (what >= stands_alone || alone_) end_word();
                if (!marks_.empty()) flush_marks();
                letter(what & ~std::uint32_t{stands_alone}, at, next);
                alone_ = what >= stands_alone;
                at = next;
                continue;
            }
            if (what == separates) {
                end_word();
                at = next;
                continue;
            }
            at = unusual(what, point, at, next);
        }
        end_word();
    }

  private:
    void letter(char32_t c, std::size_t begin, std::size_t end) {
        if (!in_word_) {
            in_word_ = true;
            begin_ = begin;
            hash_ = 0x9E3779B97F4A7C15U;
        }
        hash_ = (hash_ ^ c) * 0xD6E8FEB86659FD93U;
        end_ = end;
    }

    // Marks on one letter come in any order: their canonical one decides.
    void flush_marks() {
        std::stable_sort(marks_.begin(), marks_.end(), [](char32_t a, char32_t b) {
            return utf8proc_get_property(static_cast<utf8proc_int32_t>(a))->combining_class <
                   utf8proc_get_property(static_cast<utf8proc_int32_t>(b))->combining_class;
        });
        for (const char32_t mark : marks_) hash_ = (hash_ ^ mark) * 0xD6E8FEB86659FD93U;
        marks_.clear();
    }

    void end_word() {
        if (!in_word_) return;
        if (!marks_.empty()) flush_marks();
        const auto id = static_cast<Word>((hash_ ^ (hash_ >> 29U)) * 0xBF58476D1CE4E5B9U >> 32U);
        out_.ids.push_back(id == 0 ? 1 : id);
        out_.begins.push_back(static_cast<std::uint32_t>(begin_));
        out_.ends.push_back(static_cast<std::uint32_t>(end_));
        in_word_ = false;
        alone_ = false;
    }

    // Where to go on.
    std::size_t unusual(std::uint32_t what, char32_t point, std::size_t at, std::size_t next) {
        if (what == ignored) return next;
        if (what == line_hyphen) {
            if (in_word_) {
                std::size_t after = next;
                if (after < text_.size() && text_[after] == '\r') ++after;
                if (after < text_.size() && text_[after] == '\n') {
                    ++after;
                    while (after < text_.size() && (text_[after] == ' ' || text_[after] == '\t')) ++after;
                    return after;
                }
            }
            end_word();
            return next;
        }
        std::array<utf8proc_int32_t, most_decomposed> parts{};
        const std::size_t count = decompose(point, parts);
        const bool alone = has_no_spaces(point);
        if (count > 0 && !is_mark(utf8proc_category(parts[0]))) {
            if (alone || alone_) end_word();
            alone_ = alone;
        }
        for (std::size_t i = 0; i < count; ++i) {
            const auto category = utf8proc_category(parts[i]);
            const auto part = static_cast<char32_t>(parts[i]);
            if (is_letter_or_number(category)) {
                if (!marks_.empty()) flush_marks();
                letter(part, at, next);
            } else if (is_mark(category)) {
                if (in_word_) {
                    marks_.push_back(part);
                    end_ = next;
                }
            } else {
                end_word();
            }
        }
        return next;
    }

    const std::array<std::uint32_t, table_size>& table_ = class_table();
    std::string_view text_;
    Words& out_;
    bool in_word_ = false;
    bool alone_ = false;  // the word in the making is a letter of a script without spaces
    std::uint64_t hash_ = 0;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::vector<char32_t> marks_;
};

}  // namespace

void Words::clear() {
    ids.clear();
    begins.clear();
    ends.clear();
}

Status split_words(std::string_view text, Words& out) {
    out.clear();
    if (text.size() > largest_text) {
        return fail(ErrorCode::unsupported, "a text of {} bytes; at most {} can be screened at once",
                    text.size(), largest_text);
    }
    // English has six bytes a word; one growth more costs less than too much memory.
    out.ids.reserve(text.size() / 5);
    out.begins.reserve(text.size() / 5);
    out.ends.reserve(text.size() / 5);
    Splitter(text, out).run();
    return {};
}

std::size_t span_characters(std::string_view text, const Words& words, std::size_t begin, std::size_t end) {
    std::size_t count = end > begin ? end - begin - 1 : 0;
    for (std::size_t i = begin; i < end; ++i) {
        for (std::size_t at = words.begins[i]; at < words.ends[i]; ++at) {
            count += (static_cast<unsigned char>(text[at]) & 0xC0U) != 0x80U ? 1 : 0;
        }
    }
    return count;
}

}  // namespace retort::screen
