#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "text/unicode.h"

namespace retort::text {
namespace {

constexpr int max_normalizers = 16;

void append_nfc(std::string& out, std::string_view text) {
    if (text.empty()) return;
    utf8proc_uint8_t* composed = nullptr;
    const utf8proc_ssize_t length = utf8proc_map(
        reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
        &composed, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (length >= 0) {
        out.append(reinterpret_cast<const char*>(composed), static_cast<std::size_t>(length));
    } else {
        out.append(text);
    }
    std::free(composed);  // NOLINT: utf8proc allocates with malloc
}

std::string_view strip_white_space(std::string_view text, bool left, bool right) {
    std::size_t begin = 0;
    std::size_t end = text.size();
    while (left && begin < end) {
        const Decoded c = decode_valid(text, begin);
        if (!is_white_space(c.point)) break;
        begin += c.length;
    }
    while (right && end > begin) {
        const Decoded c = decode_valid_before(text, end);
        if (!is_white_space(c.point)) break;
        end -= c.length;
    }
    return text.substr(begin, end - begin);
}

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& buffer) {
    const CharacterTable& table = CharacterTable::get();
    std::size_t at = 0;
    const auto find_attention = [&] {
        while (at < text.size()) {
            if (static_cast<unsigned char>(text[at]) < 0x80) {
                ++at;
                continue;
            }
            const Decoded c = decode_valid(text, at);
            if (table.nfc_attention(c.point)) return;
            at += c.length;
        }
    };
    find_attention();
    if (at >= text.size()) return text;
    std::string out;
    out.reserve(text.size());
    // Nothing moves or composes across an inert mark, so what lies between two of them is composed by itself.
    std::size_t begin = 0;
    while (at < text.size()) {
        const Decoded c = decode_valid(text, at);
        if (table.nfc_inert(c.point)) {
            append_nfc(out, text.substr(begin, at - begin));
            out.append(text.substr(at, c.length));
            begin = at + c.length;
        }
        at += c.length;
    }
    append_nfc(out, text.substr(begin));
    buffer = std::move(out);
    return buffer;
}

Result<TextPattern> parse_pattern(const formats::Json& component) {
    const formats::Json* pattern = formats::json_find(component, "pattern");
    if (pattern != nullptr && pattern->is_object()) {
        TextPattern result;
        for (const char* kind : {"String", "Regex"}) {
            const formats::Json* text = formats::json_find(*pattern, kind);
            if (text == nullptr || !text->is_string()) continue;
            result.is_regex = kind[0] == 'R';
            (result.is_regex ? result.regex : result.literal) = text->get<std::string>();
            return result;
        }
    }
    return fail(ErrorCode::format, "tokenizer.json: a \"pattern\" must hold a \"String\" or a \"Regex\"");
}

Status check_growth(const TextPattern& pattern, std::string_view content, std::size_t& growth) {
    constexpr std::size_t most = 64;
    const std::size_t taken = pattern.is_regex ? 1 : std::max<std::size_t>(pattern.literal.size(), 1);
    const std::size_t factor = (content.size() + taken - 1) / taken + (pattern.is_regex ? 1 : 0);
    growth *= std::min(std::max<std::size_t>(factor, 1), most + 1);
    if (growth > most) {
        return fail(ErrorCode::unsupported,
                    "tokenizer.json: replacements that make a text more than {} times as long", most);
    }
    return {};
}

Result<Normalizer> Normalizer::parse(const formats::Json* json) {
    Normalizer normalizer;
    if (json != nullptr) RETORT_CHECK(normalizer.add(*json, 0));
    return normalizer;
}

Status Normalizer::add(const formats::Json& json, int depth) {
    RETORT_TRY(const std::string type, formats::json_string(json, "type"));
    if (depth > max_normalizers)
        return fail(ErrorCode::unsupported, "tokenizer.json: normalizers nested too deeply");
    if (type == "Sequence") {
        const formats::Json* parts = formats::json_find(json, "normalizers");
        if (parts == nullptr || !parts->is_array()) {
            return fail(ErrorCode::format, "tokenizer.json: a normalizer Sequence without \"normalizers\"");
        }
        for (const formats::Json& part : *parts) RETORT_CHECK(add(part, depth + 1));
        return {};
    }
    if (type == "NFC") {
        steps_.emplace_back(Nfc{});
    } else if (type == "Prepend") {
        RETORT_TRY(std::string prefix, formats::json_string(json, "prepend"));
        if (prefix.size() > 64)
            return fail(ErrorCode::unsupported, "tokenizer.json: Prepend of more than 64 bytes");
        steps_.emplace_back(Prepend{std::move(prefix)});
    } else if (type == "Replace") {
        RETORT_TRY(TextPattern pattern, parse_pattern(json));
        RETORT_TRY(std::string content, formats::json_string(json, "content"));
        RETORT_CHECK(check_growth(pattern, content, growth_));
        std::optional<Regex> regex;
        if (pattern.is_regex) {
            RETORT_TRY(regex, Regex::compile(pattern.regex));
        }
        steps_.emplace_back(Replace{std::move(pattern.literal), std::move(regex), std::move(content)});
    } else if (type == "Strip") {
        RETORT_TRY(const bool left, formats::json_boolean(json, "strip_left", true));
        RETORT_TRY(const bool right, formats::json_boolean(json, "strip_right", true));
        steps_.emplace_back(Strip{left, right});
    } else {
        return fail(ErrorCode::unsupported,
                    "tokenizer.json: normalizer {:?} is not supported (NFC, Prepend, Replace, Strip and "
                    "Sequence are)",
                    type);
    }
    return {};
}

std::string_view Normalizer::apply(std::string_view text, std::string& buffer) const {
    std::string next;
    const auto keep = [&](std::string& made) {
        buffer.swap(made);
        text = buffer;
    };
    for (const Step& step : steps_) {
        if (text.empty()) break;
        next.clear();
        if (std::holds_alternative<Nfc>(step)) {
            const std::string_view composed = to_nfc(text, next);
            if (composed.data() != text.data()) keep(next);
        } else if (const auto* prepend = std::get_if<Prepend>(&step)) {
            next.reserve(text.size() + prepend->prefix.size());
            next.append(prepend->prefix).append(text);
            keep(next);
        } else if (const auto* replace = std::get_if<Replace>(&step)) {
            std::size_t from = 0;
            if (replace->regex) {
                replace->regex->find_all(text, [&](std::size_t begin, std::size_t end) {
                    next.append(text.substr(from, begin - from)).append(replace->content);
                    from = end;
                });
            } else if (!replace->literal.empty()) {
                for (std::size_t at = text.find(replace->literal); at != std::string_view::npos;
                     at = text.find(replace->literal, from)) {
                    next.append(text.substr(from, at - from)).append(replace->content);
                    from = at + replace->literal.size();
                }
            }
            if (from == 0 && next.empty()) continue;
            next.append(text.substr(from));
            keep(next);
        } else if (const auto* sides = std::get_if<Strip>(&step)) {
            next.assign(strip_white_space(text, sides->left, sides->right));
            keep(next);
        }
    }
    return text;
}

}  // namespace retort::text
