#include "screen/read_work.h"

#include <algorithm>
#include <cctype>

namespace retort::screen {

namespace {

bool looks_binary(std::string_view bytes) {
    return bytes.substr(0, 8192).find('\0') != std::string_view::npos;
}

// UTF-16 with its byte order mark, as Windows writes text.
std::string from_utf16(std::string_view bytes, bool big) {
    std::string out;
    const auto unit = [&](std::size_t i) {
        const auto a = static_cast<unsigned char>(bytes[i]);
        const auto b = static_cast<unsigned char>(bytes[i + 1]);
        return big ? static_cast<char32_t>(a << 8U | b) : static_cast<char32_t>(b << 8U | a);
    };
    for (std::size_t i = 2; i + 1 < bytes.size(); i += 2) {
        char32_t c = unit(i);
        if (c >= 0xD800 && c < 0xDC00 && i + 3 < bytes.size()) {
            const char32_t low = unit(i + 2);
            if (low >= 0xDC00 && low < 0xE000) {
                c = 0x10000 + ((c - 0xD800) << 10U) + (low - 0xDC00);
                i += 2;
            }
        }
        if (c >= 0xD800 && c < 0xE000) c = 0xFFFD;
        if (c < 0x80) {
            out += static_cast<char>(c);
        } else if (c < 0x800) {
            out += static_cast<char>(0xC0U | c >> 6U);
            out += static_cast<char>(0x80U | (c & 63U));
        } else if (c < 0x10000) {
            out += static_cast<char>(0xE0U | c >> 12U);
            out += static_cast<char>(0x80U | (c >> 6U & 63U));
            out += static_cast<char>(0x80U | (c & 63U));
        } else {
            out += static_cast<char>(0xF0U | c >> 18U);
            out += static_cast<char>(0x80U | (c >> 12U & 63U));
            out += static_cast<char>(0x80U | (c >> 6U & 63U));
            out += static_cast<char>(0x80U | (c & 63U));
        }
    }
    return out;
}

}  // namespace

std::string format_of(const std::filesystem::path& name, std::string_view bytes) {
    if (bytes.starts_with("%PDF-")) return "pdf";
    if (bytes.starts_with("PK\x03\x04")) return "epub";
    std::string ending = name.extension().string();
    std::transform(ending.begin(), ending.end(), ending.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (ending == ".pdf") return "pdf";
    if (ending == ".epub") return "epub";
    if (ending == ".html" || ending == ".htm" || ending == ".xhtml") return "html";
    if (ending == ".md" || ending == ".markdown") return "markdown";
    return "text";
}

Result<std::string> extract_text(std::string_view bytes, std::string_view format, const std::string& name) {
    Result<std::string> text;
    if (format == "pdf") {
        text = pdf_text(bytes);
    } else if (format == "epub") {
        text = epub_text(bytes, name);
    } else if (format == "html") {
        text = html_text(bytes);
    } else if (format == "markdown") {
        text = markdown_text(bytes);
    } else if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) {
        text = from_utf16(bytes, bytes.starts_with("\xFE\xFF"));
    } else if (looks_binary(bytes)) {
        text = fail(ErrorCode::format, "no text: there are zero bytes in it");
    } else {
        text = std::string(bytes);
    }
    if (!text) return fail_from(text.error(), name);
    return text;
}

}  // namespace retort::screen
