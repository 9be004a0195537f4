// Why a record goes. Private to this part.
#pragma once

#include <string>

namespace retort::curate {

struct Drop {
    std::string reason;  // a short name, counted
    std::string detail;
};

}  // namespace retort::curate
