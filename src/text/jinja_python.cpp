#include "text/jinja_python.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "text/jinja_writer.h"
#include "text/unicode.h"

namespace retort::text::jinja {
namespace {

constexpr int max_repr_depth = 200;

void write_string_repr(Writer& out, std::string_view text) {
    const bool double_quotes =
        text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
    const char quote = double_quotes ? '"' : '\'';
    out.put(quote);
    for (std::size_t at = 0; at < text.size();) {
        const Decoded c = decode_valid(text, at);
        const std::string_view raw = text.substr(at, c.length);
        at += c.length;
        if (c.point == '\\' || c.point == static_cast<char32_t>(quote)) {
            out.put('\\');
            out.put(raw);
        } else if (c.point == '\n') {
            out.put("\\n");
        } else if (c.point == '\r') {
            out.put("\\r");
        } else if (c.point == '\t') {
            out.put("\\t");
        } else if (c.point < 0x20 || c.point == 0x7F) {
            out.put(fmt::format("\\x{:02x}", static_cast<std::uint32_t>(c.point)));
        } else if (c.point < 0x7F) {
            out.put(raw);
        } else {
            // Not printable to Python: other and separators, but for the space.
            const bool hidden = CharacterTable::get().in(c.point, categories::separators | bit(Category::cc) |
                                                                      bit(Category::cf) | bit(Category::co) |
                                                                      bit(Category::cn));
            const auto number = static_cast<std::uint32_t>(c.point);
            if (!hidden) {
                out.put(raw);
            } else if (number < 0x100) {
                out.put(fmt::format("\\x{:02x}", number));
            } else if (number < 0x10000) {
                out.put(fmt::format("\\u{:04x}", number));
            } else {
                out.put(fmt::format("\\U{:08x}", number));
            }
        }
    }
    out.put(quote);
}

Status write_repr(Writer& out, const Value& value, int depth);

Status write_items(Writer& out, const std::vector<Value>& items, int depth) {
    bool first = true;
    for (const Value& item : items) {
        if (!first) out.put(", ");
        first = false;
        RETORT_CHECK(write_repr(out, item, depth + 1));
    }
    return {};
}

Status write_repr(Writer& out, const Value& value, int depth) {
    if (depth > max_repr_depth || out.full())
        return fail(ErrorCode::refused, "a value nested too deeply or too long to print");
    if (value.is_string()) {
        write_string_repr(out, value.text());
    } else if (value.is_undefined()) {
        out.put(depth == 0 ? "" : "Undefined");
    } else if (value.is_none()) {
        out.put("None");
    } else if (value.is<bool>()) {
        out.put(std::get<bool>(value.data()) ? "True" : "False");
    } else if (value.is<std::int64_t>()) {
        out.put(std::to_string(value.as_integer()));
    } else if (value.is<double>()) {
        out.put(float_text(value.as_number()));
    } else if (const List* list = value.as_list();
               list != nullptr && (list->kind == List::Kind::list || list->kind == List::Kind::tuple)) {
        const bool tuple = list->kind == List::Kind::tuple;
        out.put(tuple ? '(' : '[');
        RETORT_CHECK(write_items(out, list->items, depth));
        if (tuple && list->items.size() == 1) out.put(',');
        out.put(tuple ? ')' : ']');
    } else if (const Dict* dict = value.as_dict()) {
        out.put('{');
        bool first = true;
        for (const Dict::Entry& entry : dict->entries()) {
            if (!first) out.put(", ");
            first = false;
            RETORT_CHECK(write_repr(out, entry.key, depth + 1));
            out.put(": ");
            RETORT_CHECK(write_repr(out, entry.value, depth + 1));
        }
        out.put('}');
    } else {
        return fail(ErrorCode::unsupported, "printing a value of type '{}' is not supported",
                    type_name(value));
    }
    return {};
}

void write_json_string(Writer& out, std::string_view text, bool ensure_ascii) {
    out.put('"');
    for (std::size_t at = 0; at < text.size();) {
        const Decoded c = decode_valid(text, at);
        const std::string_view raw = text.substr(at, c.length);
        at += c.length;
        const auto number = static_cast<std::uint32_t>(c.point);
        switch (number) {
            case '"':
                out.put("\\\"");
                continue;
            case '\\':
                out.put("\\\\");
                continue;
            case '\n':
                out.put("\\n");
                continue;
            case '\r':
                out.put("\\r");
                continue;
            case '\t':
                out.put("\\t");
                continue;
            case '\b':
                out.put("\\b");
                continue;
            case '\f':
                out.put("\\f");
                continue;
            default:
                break;
        }
        if (number >= 0x20 && (number < 0x7F || !ensure_ascii)) {
            out.put(raw);
        } else if (number < 0x10000) {
            out.put(fmt::format("\\u{:04x}", number));
        } else {
            out.put(fmt::format("\\u{:04x}\\u{:04x}", 0xD800U + ((number - 0x10000U) >> 10U),
                                0xDC00U + (number & 0x3FFU)));
        }
    }
    out.put('"');
}

std::string json_number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return float_text(value);
}

class JsonWriter {
  public:
    JsonWriter(const JsonStyle& style, std::size_t limit) : style_(style), out_(limit) {}

    Status write(const Value& value, int depth) {
        if (depth > max_repr_depth || out_.full())
            return fail(ErrorCode::refused, "a value nested too deeply or too long for tojson");
        if (value.is_string()) {
            write_json_string(out_, value.text(), style_.ensure_ascii);
        } else if (value.is_none()) {
            out_.put("null");
        } else if (value.is<bool>()) {
            out_.put(std::get<bool>(value.data()) ? "true" : "false");
        } else if (value.is<std::int64_t>()) {
            out_.put(std::to_string(value.as_integer()));
        } else if (value.is<double>()) {
            out_.put(json_number(value.as_number()));
        } else if (const List* list = value.as_list();
                   list != nullptr && (list->kind == List::Kind::list || list->kind == List::Kind::tuple)) {
            return write_list(*list, depth);
        } else if (const Dict* dict = value.as_dict()) {
            return write_dict(*dict, depth);
        } else {
            return fail(ErrorCode::invalid_argument, "a value of type '{}' has no JSON form",
                        type_name(value));
        }
        return {};
    }
    Result<std::string> take() { return out_.take(); }

  private:
    void new_line(int depth) {
        if (!style_.indent) return;
        out_.put('\n');
        for (int i = 0; i < depth && !out_.full(); ++i) out_.put(*style_.indent);
    }

    Status write_list(const List& list, int depth) {
        if (list.items.empty()) {
            out_.put("[]");
            return {};
        }
        out_.put('[');
        for (std::size_t i = 0; i < list.items.size(); ++i) {
            if (i > 0) out_.put(style_.item_separator);
            new_line(depth + 1);
            RETORT_CHECK(write(list.items[i], depth + 1));
        }
        new_line(depth);
        out_.put(']');
        return {};
    }

    Status write_dict(const Dict& dict, int depth) {
        if (dict.entries().empty()) {
            out_.put("{}");
            return {};
        }
        std::vector<const Dict::Entry*> entries;
        for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
        if (style_.sort_keys) {
            for (const Dict::Entry* entry : entries) {
                if (!entry->key.is_string())
                    return fail(ErrorCode::unsupported,
                                "tojson(sort_keys=true) with keys that are no strings");
            }
            std::stable_sort(entries.begin(), entries.end(), [](const Dict::Entry* a, const Dict::Entry* b) {
                return a->key.text() < b->key.text();
            });
        }
        out_.put('{');
        bool first = true;
        for (const Dict::Entry* entry : entries) {
            if (!first) out_.put(style_.item_separator);
            first = false;
            new_line(depth + 1);
            RETORT_CHECK(write_key(entry->key));
            out_.put(style_.key_separator);
            RETORT_CHECK(write(entry->value, depth + 1));
        }
        new_line(depth);
        out_.put('}');
        return {};
    }

    Status write_key(const Value& key) {
        if (key.is_string()) {
            write_json_string(out_, key.text(), style_.ensure_ascii);
            return {};
        }
        out_.put('"');
        RETORT_CHECK(write(key, 0));
        out_.put('"');
        return {};
    }

    const JsonStyle& style_;
    Writer out_;
};

}  // namespace

std::string float_text(double value) {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    std::array<char, 64> buffer{};
    const auto end =
        std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
    const std::string_view shortest(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
    const std::size_t e = shortest.find('e');
    int exponent = 0;
    const std::string_view exponent_text = shortest.substr(e + (shortest[e + 1] == '+' ? 2 : 1));
    std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);
    std::string digits;
    std::string out;
    for (const char c : shortest.substr(0, e)) {
        if (c == '-') out = "-";
        if (c >= '0' && c <= '9') digits += c;
    }
    if (exponent < -4 || exponent >= 16) {
        out += digits[0];
        if (digits.size() > 1) out += "." + digits.substr(1);
        return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
    }
    if (exponent < 0) return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
    const auto whole = static_cast<std::size_t>(exponent) + 1;
    if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
    return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

Result<std::string> str(const Value& value, std::size_t limit) {
    if (value.is_string()) return value.text();
    return repr(value, limit);
}

Result<std::string> repr(const Value& value, std::size_t limit) {
    Writer out(limit);
    RETORT_CHECK(write_repr(out, value, 0));
    return out.take();
}

Result<std::string> json_dumps(const Value& value, const JsonStyle& style, std::size_t limit) {
    JsonWriter writer(style, limit);
    RETORT_CHECK(writer.write(value, 0));
    return writer.take();
}

Result<std::string> printf_format(std::string_view format, const std::vector<Value>& arguments,
                                  std::size_t limit) {
    Writer out(limit);
    std::size_t next = 0;
    for (std::size_t at = 0; at < format.size(); ++at) {
        if (format[at] != '%') {
            out.put(format[at]);
            continue;
        }
        std::size_t end = at + 1;
        int precision = -1;
        if (end < format.size() && format[end] == '.') {
            precision = 0;
            for (++end; end < format.size() && format[end] >= '0' && format[end] <= '9'; ++end) {
                precision = std::min(precision * 10 + (format[end] - '0'), 100);
            }
        }
        const char kind = end < format.size() ? format[end] : '\0';
        at = end;
        if (kind == '%' && precision < 0) {
            out.put('%');
            continue;
        }
        if (next >= arguments.size())
            return fail(ErrorCode::invalid_argument, "not enough arguments for format string");
        const Value& argument = arguments[next++];
        if (kind == 's' && precision < 0) {
            RETORT_TRY(const std::string text, str(argument, limit));
            out.put(text);
        } else if (kind == 'r' && precision < 0) {
            RETORT_TRY(const std::string text, repr(argument, limit));
            out.put(text);
        } else if ((kind == 'd' || kind == 'i' || kind == 'u' || kind == 'x') && precision < 0 &&
                   argument.is_number()) {
            const auto number =
                argument.is_integer()
                    ? argument.as_integer()
                    : static_cast<std::int64_t>(std::clamp(argument.as_number(), -9.2e18, 9.2e18));
            out.put(kind == 'x' ? fmt::format("{:x}", number) : std::to_string(number));
        } else if (kind == 'f' && argument.is_number()) {
            out.put(fmt::format("{:.{}f}", argument.as_number(), precision < 0 ? 6 : precision));
        } else {
            return fail(ErrorCode::unsupported, "the format \"%{}\" of a value of type '{}' is not supported",
                        kind, type_name(argument));
        }
    }
    if (next < arguments.size())
        return fail(ErrorCode::invalid_argument, "not all arguments converted during string formatting");
    return out.take();
}

}  // namespace retort::text::jinja
