#include "text/decoder.h"

#include <algorithm>
#include <cctype>

#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/unicode.h"

namespace retort::text {
namespace {

constexpr int max_decoders = 16;
constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

// "<0xE2>" → 0xE2, -1 for other tokens.
int byte_of_token(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
    int value = 0;
    for (const char c : token.substr(3, 2)) {
        if (std::isxdigit(static_cast<unsigned char>(c)) == 0) return -1;
        value = value * 16 + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

void append_byte_level(std::string& out, std::string_view token) {
    std::string raw;
    out.append(bytes_of_alphabet(token, raw) ? std::string_view(raw) : token);
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    std::size_t at = 0;
    while (at < text.size()) {
        const std::size_t found = std::min(text.find(from, at), text.size());
        out.append(text.substr(at, found - at));
        if (found < text.size()) out.append(to);
        at = found + from.size();
    }
    return out;
}

void decode_byte_fallback(std::vector<std::string>& tokens) {
    std::vector<std::string> out;
    std::string pending;
    const auto flush = [&] {
        if (pending.empty()) return;
        if (is_valid_utf8(pending)) {
            out.push_back(pending);
        } else {
            out.insert(out.end(), pending.size(), std::string(replacement_character));
        }
        pending.clear();
    };
    for (std::string& token : tokens) {
        if (const int byte = byte_of_token(token); byte >= 0) {
            pending.push_back(static_cast<char>(byte));
            continue;
        }
        flush();
        out.push_back(std::move(token));
    }
    flush();
    tokens.swap(out);
}

std::string_view strip_characters(std::string_view text, std::string_view character, std::size_t start,
                                  std::size_t stop) {
    for (std::size_t i = 0; i < start && text.starts_with(character); ++i)
        text.remove_prefix(character.size());
    for (std::size_t i = 0; i < stop && text.ends_with(character); ++i) text.remove_suffix(character.size());
    return text;
}

}  // namespace

Result<Decoder> Decoder::parse(const formats::Json* json) {
    Decoder decoder;
    if (json != nullptr) RETORT_CHECK(decoder.add(*json, 0));
    decoder.byte_level_ = decoder.steps_.size() == 1 && std::holds_alternative<ByteLevel>(decoder.steps_[0]);
    return decoder;
}

Status Decoder::add(const formats::Json& json, int depth) {
    RETORT_TRY(const std::string type, formats::json_string(json, "type"));
    if (depth > max_decoders)
        return fail(ErrorCode::unsupported, "tokenizer.json: decoders nested too deeply");
    if (type == "Sequence") {
        const formats::Json* parts = formats::json_find(json, "decoders");
        if (parts == nullptr || !parts->is_array()) {
            return fail(ErrorCode::format, "tokenizer.json: a decoder Sequence without \"decoders\"");
        }
        for (const formats::Json& part : *parts) RETORT_CHECK(add(part, depth + 1));
    } else if (type == "ByteLevel") {
        steps_.emplace_back(ByteLevel{});
    } else if (type == "ByteFallback") {
        steps_.emplace_back(ByteFallback{});
        byte_fallback_ = true;
    } else if (type == "Fuse") {
        steps_.emplace_back(Fuse{});
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
        RETORT_TRY(std::string content, formats::json_string(json, "content"));
        RETORT_TRY(const std::int64_t start, formats::json_integer(json, "start", 0));
        RETORT_TRY(const std::int64_t stop, formats::json_integer(json, "stop", 0));
        if (content.empty() || decode_valid(content, 0).length != content.size() || start < 0 || stop < 0) {
            return fail(ErrorCode::format,
                        "tokenizer.json: decoder Strip wants one character and two counts");
        }
        strips_leading_space_ = strips_leading_space_ || (content == " " && start > 0);
        steps_.emplace_back(
            Strip{std::move(content), static_cast<std::size_t>(start), static_cast<std::size_t>(stop)});
    } else if (type == "Metaspace") {
        RETORT_TRY(std::string replacement, formats::json_string(json, "replacement", "\xE2\x96\x81"));
        RETORT_TRY(const bool legacy_prefix, formats::json_boolean(json, "add_prefix_space", true));
        RETORT_TRY(const std::string scheme,
                   formats::json_string(json, "prepend_scheme", legacy_prefix ? "always" : "never"));
        if (replacement.empty())
            return fail(ErrorCode::format, "tokenizer.json: Metaspace without a replacement");
        strips_leading_space_ = strips_leading_space_ || scheme != "never";
        steps_.emplace_back(Metaspace{std::move(replacement), scheme != "never"});
    } else {
        return fail(
            ErrorCode::unsupported,
            "tokenizer.json: decoder {:?} is not supported (ByteLevel, ByteFallback, Fuse, Replace, Strip, "
            "Metaspace and Sequence are)",
            type);
    }
    return {};
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
    for (const Step& step : steps_) {
        if (std::holds_alternative<ByteLevel>(step)) {
            std::string all;
            for (const std::string& token : tokens) append_byte_level(all, token);
            tokens.assign(1, lossy_utf8(all));
        } else if (std::holds_alternative<ByteFallback>(step)) {
            decode_byte_fallback(tokens);
        } else if (std::holds_alternative<Fuse>(step)) {
            std::string all;
            for (const std::string& token : tokens) all.append(token);
            tokens.assign(1, std::move(all));
        } else if (const auto* replace = std::get_if<Replace>(&step)) {
            for (std::string& token : tokens) {
                if (replace->regex) {
                    std::string out;
                    std::size_t from = 0;
                    replace->regex->find_all(token, [&](std::size_t begin, std::size_t end) {
                        out.append(token, from, begin - from).append(replace->content);
                        from = end;
                    });
                    token = out.append(token, from);
                } else if (!replace->literal.empty()) {
                    token = replaced(token, replace->literal, replace->content);
                }
            }
        } else if (const auto* cut = std::get_if<Strip>(&step)) {
            for (std::string& token : tokens)
                token = strip_characters(token, cut->content, cut->start, cut->stop);
        } else if (const auto* space = std::get_if<Metaspace>(&step)) {
            for (std::size_t i = 0; i < tokens.size(); ++i) {
                tokens[i] = replaced(tokens[i], space->replacement, i == 0 && space->strip_first ? "" : " ");
            }
        }
    }
    std::string out;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        if (i > 0 && steps_.empty()) out.push_back(' ');
        out.append(tokens[i]);
    }
    return out;
}

std::string Decoder::bytes(std::string_view token) const {
    std::string out(token);
    for (const Step& step : steps_) {
        if (std::holds_alternative<ByteLevel>(step)) {
            std::string raw;
            append_byte_level(raw, out);
            return raw;
        }
        if (std::holds_alternative<ByteFallback>(step)) {
            if (const int byte = byte_of_token(out); byte >= 0) return {static_cast<char>(byte)};
        } else if (const auto* replace = std::get_if<Replace>(&step)) {
            if (!replace->regex && !replace->literal.empty())
                out = replaced(out, replace->literal, replace->content);
        } else if (const auto* space = std::get_if<Metaspace>(&step)) {
            out = replaced(out, space->replacement, " ");
        }
    }
    return out;
}

}  // namespace retort::text
