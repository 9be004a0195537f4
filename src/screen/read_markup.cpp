// HTML and EPUB by libxml2, Markdown by cmark: the text that a reader sees, blocks on lines of their own.
#include <cmark.h>
#include <libxml/HTMLparser.h>
#include <libxml/parser.h>
#include <libxml/tree.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>

#include "formats/zip.h"
#include "screen/read_work.h"

namespace retort::screen {

namespace {

struct FreeDocument {
    void operator()(xmlDoc* document) const { xmlFreeDoc(document); }
};
using Document = std::unique_ptr<xmlDoc, FreeDocument>;

std::string_view text_of(const xmlChar* text) {
    return text == nullptr ? std::string_view{} : std::string_view(reinterpret_cast<const char*>(text));
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_unseen(std::string_view name) {
    return is_one_of(name, {"script", "style", "head", "template", "noscript", "svg", "math"});
}

bool is_inline(std::string_view name) {
    return is_one_of(name,
                     {"a",     "abbr", "b",      "bdi", "bdo", "big",  "cite", "code", "del", "dfn",
                      "em",    "font", "i",      "ins", "kbd", "mark", "q",    "ruby", "s",   "samp",
                      "small", "span", "strong", "sub", "sup", "tt",   "u",    "var",  "wbr", "acronym"});
}

std::string attribute(const xmlNode* node, const char* name) {
    xmlChar* value = xmlGetProp(node, reinterpret_cast<const xmlChar*>(name));
    std::string text(text_of(value));
    xmlFree(value);
    return text;
}

void append_utf8(std::string& out, unsigned c) {
    if (c < 0x80) {
        out += static_cast<char>(c);
    } else if (c < 0x800) {
        out += static_cast<char>(0xC0U | c >> 6U);
        out += static_cast<char>(0x80U | (c & 63U));
    } else {
        out += static_cast<char>(0xE0U | (c >> 12U & 15U));
        out += static_cast<char>(0x80U | (c >> 6U & 63U));
        out += static_cast<char>(0x80U | (c & 63U));
    }
}

// Every node in document order, without recursion: depth is the file's to choose. enter() says whether to go
// in.
template <typename Enter, typename Leave>
void walk(xmlNode* root, const Enter& enter, const Leave& leave) {
    xmlNode* node = root;
    while (node != nullptr) {
        const bool into = enter(node);
        // An entity's children are its definition's, shared by all its uses.
        if (into && node->children != nullptr && node->type != XML_ENTITY_REF_NODE) {
            node = node->children;
            continue;
        }
        leave(node);
        while (node != root && node->next == nullptr) {
            node = node->parent;
            if (node == nullptr) return;
            leave(node);
        }
        if (node == root) return;
        node = node->next;
    }
}

std::string text_of_tree(xmlDoc* document) {
    std::string out;
    xmlNode* root = xmlDocGetRootElement(document);
    if (root == nullptr) return out;
    const auto new_line = [&] {
        if (!out.empty() && out.back() != '\n') out += '\n';
    };
    walk(
        root,
        [&](xmlNode* node) {
            if (node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE) {
                out += text_of(node->content);
            } else if (node->type == XML_ENTITY_REF_NODE) {
                if (const htmlEntityDesc* entity = htmlEntityLookup(node->name))
                    append_utf8(out, entity->value);
            } else if (node->type == XML_ELEMENT_NODE) {
                const std::string_view name = text_of(node->name);
                if (is_unseen(name)) return false;
                if (!is_inline(name)) new_line();
            }
            return true;
        },
        [&](xmlNode* node) {
            if (node->type == XML_ELEMENT_NODE && !is_inline(text_of(node->name))) new_line();
        });
    return out;
}

constexpr int xml_options = XML_PARSE_RECOVER | XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING;

Document parse_xml(std::string_view bytes) {
    return Document(
        xmlReadMemory(bytes.data(), static_cast<int>(bytes.size()), nullptr, nullptr, xml_options));
}

Status check_size(std::string_view bytes) {
    if (bytes.size() > std::size_t{1} << 30U) {
        return fail(ErrorCode::unsupported, "{} bytes of markup; at most 1 GiB", bytes.size());
    }
    return {};
}

std::string resolve(std::string_view base, std::string_view relative) {
    const std::size_t slash = base.rfind('/');
    std::string path =
        slash == std::string_view::npos ? std::string() : std::string(base.substr(0, slash + 1));
    // %20 and its like.
    for (std::size_t i = 0; i < relative.size(); ++i) {
        const auto hex = [&](std::size_t at) {
            const char c = relative[at];
            return c >= '0' && c <= '9'   ? c - '0'
                   : c >= 'a' && c <= 'f' ? c - 'a' + 10
                   : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                          : -1;
        };
        if (relative[i] == '%' && i + 2 < relative.size() && hex(i + 1) >= 0 && hex(i + 2) >= 0) {
            path += static_cast<char>(hex(i + 1) * 16 + hex(i + 2));
            i += 2;
        } else if (relative[i] == '#') {
            break;
        } else {
            path += relative[i];
        }
    }
    std::string out;
    for (std::size_t at = 0; at <= path.size();) {
        const std::size_t end = std::min(path.find('/', at), path.size());
        const std::string_view piece(path.data() + at, end - at);
        if (piece == "..") {
            const std::size_t up = out.rfind('/');
            out.resize(up == std::string::npos ? 0 : up);
        } else if (!piece.empty() && piece != ".") {
            if (!out.empty()) out += '/';
            out += piece;
        }
        at = end + 1;
    }
    return out;
}

// A chapter is XHTML; the XML parser stops at an error and at a depth of 256, the HTML parser at neither.
std::string chapter_text(std::string_view bytes) {
    const std::unique_ptr<xmlParserCtxt, decltype(&xmlFreeParserCtxt)> context(xmlNewParserCtxt(),
                                                                               &xmlFreeParserCtxt);
    if (!context) return {};
    const Document document(xmlCtxtReadMemory(context.get(), bytes.data(), static_cast<int>(bytes.size()),
                                              nullptr, nullptr, xml_options));
    std::string text = document ? text_of_tree(document.get()) : std::string();
    if (document && context->wellFormed != 0) return text;
    auto other = html_text(bytes);
    return other && other->size() > text.size() ? std::move(*other) : text;
}

constexpr std::uint64_t largest_chapter = std::uint64_t{64} << 20U;
constexpr std::uint64_t largest_book = std::uint64_t{1} << 30U;

Result<std::string> member(formats::ZipArchive& archive, const std::string& path) {
    const formats::ZipEntry* entry = archive.find(path);
    if (entry == nullptr) return fail(ErrorCode::format, "no {} in it", path);
    return archive.read(*entry, largest_chapter);
}

}  // namespace

Result<std::string> html_text(std::string_view bytes) {
    RETORT_CHECK(check_size(bytes));
    if (bytes.find_first_not_of(" \t\r\n") == std::string_view::npos) return std::string();
    // HUGE: else what is nested deeper than 256 elements is left out without a word. HTML has no entities of
    // its own that could grow.
    constexpr int options = HTML_PARSE_RECOVER | HTML_PARSE_NONET | HTML_PARSE_NOERROR |
                            HTML_PARSE_NOWARNING | static_cast<int>(XML_PARSE_HUGE);
    // Without a word about it UTF-8; a <meta charset> or a byte order mark is followed.
    const std::string_view head = bytes.substr(0, 2048);
    const bool declared = head.find("charset") != std::string_view::npos || head.starts_with("\xFF\xFE") ||
                          head.starts_with("\xFE\xFF");
    const Document document(htmlReadMemory(bytes.data(), static_cast<int>(bytes.size()), nullptr,
                                           declared ? nullptr : "UTF-8", options));
    if (!document) return fail(ErrorCode::format, "not HTML that can be read");
    return text_of_tree(document.get());
}

Result<std::string> epub_text(std::string_view bytes, const std::string& name) {
    RETORT_TRY(formats::ZipArchive archive,
               formats::ZipArchive::parse(std::as_bytes(std::span(bytes)), name));
    RETORT_TRY(const std::string container, member(archive, "META-INF/container.xml"));
    const auto each_element = [](const Document& document, const auto& on_element) {
        if (!document || xmlDocGetRootElement(document.get()) == nullptr) return;
        walk(
            xmlDocGetRootElement(document.get()),
            [&](xmlNode* node) {
                if (node->type == XML_ELEMENT_NODE) on_element(node, text_of(node->name));
                return true;
            },
            [](xmlNode*) {});
    };
    std::string package;
    each_element(parse_xml(container), [&](xmlNode* node, std::string_view element) {
        if (element == "rootfile" && package.empty()) package = attribute(node, "full-path");
    });
    if (package.empty()) return fail(ErrorCode::format, "META-INF/container.xml names no package: no EPUB");
    RETORT_TRY(const std::string listing, member(archive, package));
    std::map<std::string, std::string> items;
    std::vector<std::string> spine;
    each_element(parse_xml(listing), [&](xmlNode* node, std::string_view element) {
        if (element == "item") items[attribute(node, "id")] = attribute(node, "href");
        if (element == "itemref") spine.push_back(attribute(node, "idref"));
    });
    std::string out;
    for (const std::string& id : spine) {
        const auto item = items.find(id);
        if (item == items.end()) continue;
        RETORT_TRY(const std::string chapter, member(archive, resolve(package, item->second)));
        out += chapter_text(chapter) + "\n";
        if (out.size() > largest_book)
            return fail(ErrorCode::unsupported, "a book of more than 1 GiB of text");
    }
    if (spine.empty()) return fail(ErrorCode::format, "{}: its spine is empty: no EPUB", package);
    return out;
}

std::string markdown_text(std::string_view bytes) {
    struct FreeNode {
        void operator()(cmark_node* node) const { cmark_node_free(node); }
    };
    struct FreeIterator {
        void operator()(cmark_iter* iterator) const { cmark_iter_free(iterator); }
    };
    const std::unique_ptr<cmark_node, FreeNode> root(
        cmark_parse_document(bytes.data(), bytes.size(), CMARK_OPT_DEFAULT));
    std::string out;
    if (!root) return out;
    const std::unique_ptr<cmark_iter, FreeIterator> iterator(cmark_iter_new(root.get()));
    for (cmark_event_type event = cmark_iter_next(iterator.get()); event != CMARK_EVENT_DONE;
         event = cmark_iter_next(iterator.get())) {
        cmark_node* node = cmark_iter_get_node(iterator.get());
        switch (cmark_node_get_type(node)) {
            case CMARK_NODE_TEXT:
            case CMARK_NODE_CODE:
            case CMARK_NODE_CODE_BLOCK:
                if (const char* text = cmark_node_get_literal(node)) out += text;
                break;
            case CMARK_NODE_SOFTBREAK:
            case CMARK_NODE_LINEBREAK:
                out += '\n';
                break;
            case CMARK_NODE_PARAGRAPH:
            case CMARK_NODE_HEADING:
                if (event == CMARK_EVENT_EXIT) out += "\n\n";
                break;
            default:
                break;
        }
    }
    return out;
}

}  // namespace retort::screen
