// part: guard
// A guard's state: what is read is written again the same, damage is an error, and a guard goes on from
// whatever is read. The bytes are taken as they are, and as what a state unpacks to, where its checksum would
// stop the fuzzer.
#include <zstd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "base/hash.h"
#include "guard/guard.h"

namespace {

using namespace retort;

std::string packed(std::string_view plain) {
    const std::uint64_t size = plain.size();
    const std::uint64_t sum = base::xxh3_64(plain);
    constexpr std::size_t magic_size = 8;
    static const std::string magic = guard::Guard{guard::GuardOptions{}}.save().substr(0, magic_size);
    std::string out = magic;
    out.append(reinterpret_cast<const char*>(&size), sizeof size);
    out.append(reinterpret_cast<const char*>(&sum), sizeof sum);
    std::string frame(ZSTD_compressBound(plain.size()), '\0');
    frame.resize(ZSTD_compress(frame.data(), frame.size(), plain.data(), plain.size(), 1));
    return out + frame;
}

void check(std::string_view bytes) {
    guard::Guard one{guard::GuardOptions{}};
    if (!one.restore(bytes)) return;
    guard::Guard two{guard::GuardOptions{}};
    if (!two.restore(one.save()) || two.save() != one.save()) std::abort();
    two.end_tick([](const guard::Verdict&) {});
    two.end_window();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    check(bytes);
    check(packed(bytes));
    return 0;
}
