# The pages of web/, and the libraries that they use from Debian's packages, inside the program. A library that is
# not installed is left out: the page then shows text without markdown, maths or colours.
set(pages_files
  "/|text/html|${CMAKE_SOURCE_DIR}/web/chat.html"
  "/theme.css|text/css|${CMAKE_SOURCE_DIR}/web/theme.css"
  "/console|text/html|${CMAKE_SOURCE_DIR}/web/console.html"
  "/console.css|text/css|${CMAKE_SOURCE_DIR}/web/console.css"
  "/console.js|text/javascript|${CMAKE_SOURCE_DIR}/web/console.js"
  "/console_chart.js|text/javascript|${CMAKE_SOURCE_DIR}/web/console_chart.js"
  "/console_guard.js|text/javascript|${CMAKE_SOURCE_DIR}/web/console_guard.js"
  "/chat.css|text/css|${CMAKE_SOURCE_DIR}/web/chat.css"
  "/chat.js|text/javascript|${CMAKE_SOURCE_DIR}/web/chat.js"
  "/render.js|text/javascript|${CMAKE_SOURCE_DIR}/web/render.js"
  "/vendor/marked.js|text/javascript|/usr/share/javascript/marked/marked.umd.min.js"
  "/vendor/purify.js|text/javascript|/usr/share/nodejs/dompurify/dist/purify.min.js"
  "/vendor/katex.js|text/javascript|/usr/share/javascript/katex/katex.min.js"
  "/vendor/highlight.js|text/javascript|/usr/share/javascript/highlight.js/highlight.min.js")
set(pages_source "${CMAKE_BINARY_DIR}/pages/pages_data.cpp")
set(pages_symbols "")
set(pages_table "")
set(pages_inputs "")
set(pages_index 0)
foreach(entry IN LISTS pages_files)
  string(REPLACE "|" ";" entry "${entry}")
  list(GET entry 0 path)
  list(GET entry 1 type)
  list(GET entry 2 file)
  if(NOT EXISTS "${file}")
    message(STATUS "the chat page goes without ${file}")
    continue()
  endif()
  set(symbol "retort_page_${pages_index}")
  string(APPEND pages_symbols
    "asm(\".pushsection .rodata\\n.global ${symbol}\\n${symbol}:\\n.incbin \\\"${file}\\\"\\n.global ${symbol}_end\\n${symbol}_end:\\n.byte 0\\n.popsection\\n\");\n"
    "extern \"C\" const char ${symbol}[];\nextern \"C\" const char ${symbol}_end[];\n")
  string(APPEND pages_table
    "        {\"${path}\", \"${type}; charset=utf-8\", {${symbol}, static_cast<std::size_t>(${symbol}_end - ${symbol})}},\n")
  list(APPEND pages_inputs "${file}")
  math(EXPR pages_index "${pages_index} + 1")
endforeach()
file(CONFIGURE OUTPUT "${pages_source}" CONTENT "// Made by cmake/pages.cmake.
#include <array>

#include \"serve/pages.h\"

@pages_symbols@
namespace retort::serve {

std::span<const Page> pages() {
    static const auto all = std::to_array<Page>({
@pages_table@    });
    return all;
}

}  // namespace retort::serve
" @ONLY)
set_source_files_properties("${pages_source}" PROPERTIES OBJECT_DEPENDS "${pages_inputs}")
target_sources(retort_serve PRIVATE "${pages_source}")
