#include "screen/read_work.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cctype>
#include <limits>

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

constexpr std::string_view gzip_magic = "\x1f\x8b\x08";

struct Inflater {
    z_stream stream{};
    bool open = false;
    Inflater() { open = inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK; }
    ~Inflater() {
        if (open) inflateEnd(&stream);
    }
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;
};

}  // namespace

Result<std::string> unpack_gzip(std::string_view bytes, std::size_t most) {
    Inflater inflater;
    if (!inflater.open) return fail(ErrorCode::internal, "zlib cannot be set up");
    z_stream& stream = inflater.stream;
    std::string out;
    std::string block(std::size_t{1} << 18U, '\0');
    std::size_t read = 0;
    for (;;) {
        const std::size_t given = std::min<std::size_t>(bytes.size() - read, std::size_t{1} << 24U);
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + read));  // zlib reads only
        stream.avail_in = static_cast<uInt>(given);
        stream.next_out = reinterpret_cast<Bytef*>(block.data());
        stream.avail_out = static_cast<uInt>(block.size());
        const int result = inflate(&stream, Z_NO_FLUSH);
        read += given - stream.avail_in;
        out.append(block.data(), block.size() - stream.avail_out);
        if (out.size() > most) {
            return fail(ErrorCode::unsupported, "unpacked it is more than {} MiB", most >> 20U);
        }
        if (result == Z_STREAM_END) {
            // Members one after another are one text; what follows them otherwise is padding.
            if (!bytes.substr(read).starts_with(gzip_magic)) return out;
            inflateReset(&stream);
            continue;
        }
        if (result != Z_OK || (read == bytes.size() && stream.avail_out > 0)) {
            return fail(ErrorCode::format, "not a whole gzip file: {}",
                        stream.msg != nullptr ? stream.msg : "it ends too early");
        }
    }
}

Result<ReadText> read_text(const std::filesystem::path& name, std::string_view bytes) {
    ReadText read;
    if (!bytes.starts_with(gzip_magic)) {
        read.format = format_of(name, bytes);
        RETORT_TRY(read.text, extract_text(bytes, read.format, name.string()));
        return read;
    }
    auto unpacked = unpack_gzip(bytes);
    if (!unpacked) return fail_from(unpacked.error(), name.string());
    const std::string ending = name.extension().string();
    const bool named = ending == ".gz" || ending == ".dz" || ending == ".GZ";
    read.format = format_of(named ? std::filesystem::path(name).replace_extension() : name, *unpacked);
    RETORT_TRY(read.text, extract_text(*unpacked, read.format, name.string()));
    return read;
}

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
    // ls.1, printf.3posix
    if (ending.size() > 1 && ending[1] >= '1' && ending[1] <= '9' && looks_like_manual(bytes)) return "man";
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
    } else if (format == "man") {
        text = man_text(bytes);
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
