// PDF by Poppler.
#include <poppler-document.h>
#include <poppler-global.h>
#include <poppler-page.h>

#include <limits>
#include <memory>

#include "screen/read_work.h"

namespace retort::screen {

Result<std::string> pdf_text(std::string_view bytes) {
    if (bytes.size() > std::numeric_limits<int>::max()) {
        return fail(ErrorCode::unsupported, "a PDF of {} bytes; at most 2 GiB", bytes.size());
    }
    poppler::set_debug_error_function([](const std::string&, void*) {}, nullptr);
    const std::unique_ptr<poppler::document> document(
        poppler::document::load_from_raw_data(bytes.data(), static_cast<int>(bytes.size())));
    if (!document) return fail(ErrorCode::format, "not a PDF that can be read");
    if (document->is_locked()) return fail(ErrorCode::refused, "the PDF asks for a password");
    std::string out;
    for (int i = 0; i < document->pages(); ++i) {
        const std::unique_ptr<poppler::page> page(document->create_page(i));
        if (!page) continue;
        // In reading order, columns one after another.
        const poppler::byte_array text =
            page->text(poppler::rectf(), poppler::page::non_raw_non_physical_layout).to_utf8();
        out.append(text.begin(), text.end());
        out += '\n';
    }
    return out;
}

}  // namespace retort::screen
