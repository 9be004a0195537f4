// Works as people have them, as plain text: text, Markdown, HTML, EPUB, PDF. Offsets that screening tells
// count in the text that comes out of here. Knows nothing of indexes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::screen {

// By what the bytes are (PDF, zip) and else by the name's ending: "pdf", "epub", "html", "markdown", "text".
std::string format_of(const std::filesystem::path& name, std::string_view bytes);

// An error for bytes that are not of the format, and for text that is no text (zero bytes in its beginning).
Result<std::string> extract_text(std::string_view bytes, std::string_view format, const std::string& name);

Result<std::string> html_text(std::string_view bytes);
// Chapters in the order of the book's spine.
Result<std::string> epub_text(std::string_view bytes, const std::string& name);
Result<std::string> pdf_text(std::string_view bytes);
std::string markdown_text(std::string_view bytes);

}  // namespace retort::screen
