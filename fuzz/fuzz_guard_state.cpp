// part: guard
// A guard's state: what is read is written again the same, and damage is an error.
#include <cstdlib>
#include <string_view>

#include "guard/guard.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    guard::Guard one{guard::GuardOptions{}};
    if (!one.restore({reinterpret_cast<const char*>(data), size})) return 0;
    guard::Guard two{guard::GuardOptions{}};
    if (!two.restore(one.save()) || two.save() != one.save()) std::abort();
    return 0;
}
