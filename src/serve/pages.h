// The web pages inside the program (cmake/pages.cmake). Knows only bytes and their types.
#pragma once

#include <span>
#include <string_view>

namespace retort::serve {

struct Page {
    std::string_view path;
    std::string_view type;
    std::string_view bytes;
};

std::span<const Page> pages();

}  // namespace retort::serve
