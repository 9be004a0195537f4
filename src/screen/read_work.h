// Works as people have them, as plain text: text, Markdown, HTML, EPUB, PDF, manual pages; each of them in
// gzip too. Offsets that screening tells count in the text that comes out of here. Knows nothing of indexes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::screen {

struct ReadText {
    std::string format;
    std::string text;
};
// A file's text: out of gzip (Debian's manuals and documents) where it is packed, then by its format.
Result<ReadText> read_text(const std::filesystem::path& name, std::string_view bytes);

// What is in a gzip file, of one member or several. More than `most` bytes are refused.
inline constexpr std::size_t most_unpacked = std::size_t{1} << 30U;
Result<std::string> unpack_gzip(std::string_view bytes, std::size_t most = most_unpacked);

// By what the bytes are (PDF, zip) and else by the name's ending: "pdf", "epub", "html", "markdown", "man"
// (whose beginning must be a manual page's too), "text".
std::string format_of(const std::filesystem::path& name, std::string_view bytes);

// An error for bytes that are not of the format, and for text that is no text (zero bytes in its beginning).
Result<std::string> extract_text(std::string_view bytes, std::string_view format, const std::string& name);

Result<std::string> html_text(std::string_view bytes);
// Chapters in the order of the book's spine.
Result<std::string> epub_text(std::string_view bytes, const std::string& name);
Result<std::string> pdf_text(std::string_view bytes);
std::string markdown_text(std::string_view bytes);
bool looks_like_manual(std::string_view bytes);
std::string man_text(std::string_view bytes);

}  // namespace retort::screen
