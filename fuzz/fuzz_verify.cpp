// part: data
// A verifier's specification and an answer, parted by the first NUL byte (the answer alone without one).
#include <string_view>

#include "data/spec_file.h"
#include "data/verify.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace retort;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::size_t end = text.find('\0');
    const std::string_view answer = end == std::string_view::npos ? text : text.substr(end + 1);
    (void)data::count_sentences(answer);
    (void)data::parse_number(data::final_number_text(answer));
    (void)data::parse_number(answer);
    const auto spec = data::parse_spec(text.substr(0, end), "fuzz");
    if (!spec) return 0;
    const auto verifier = data::Verifier::from_spec(*spec);
    if (verifier) (void)verifier->check(answer, {{"thing", "kettle"}});
    return 0;
}
