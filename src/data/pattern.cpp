#include "data/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <utility>

namespace retort::data {

namespace {
constexpr std::uint32_t max_steps = 1'000'000;
constexpr std::uint32_t max_depth_kib = 16 * 1024;
constexpr std::size_t max_pattern_bytes = 4096;

template <auto Free>
struct Freer {
    template <typename T>
    void operator()(T* pointer) const {
        Free(pointer);
    }
};
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;

std::string error_text(int code) {
    std::array<unsigned char, 256> buffer{};
    pcre2_get_error_message(code, buffer.data(), buffer.size());
    return reinterpret_cast<const char*>(buffer.data());
}
}  // namespace

Result<Pattern> Pattern::compile(std::string_view pattern, bool ignore_case) {
    if (pattern.size() > max_pattern_bytes) {
        return fail(ErrorCode::invalid_argument, "a pattern of {} bytes; at most {}", pattern.size(),
                    max_pattern_bytes);
    }
    int code = 0;
    std::size_t at = 0;
    const std::uint32_t options =
        PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | (ignore_case ? PCRE2_CASELESS : 0U);
    pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                         options, &code, &at, nullptr);
    if (compiled == nullptr) {
        return fail(ErrorCode::invalid_argument, "pattern \"{}\": {} at byte {}", pattern, error_text(code),
                    at);
    }
    Pattern out;
    out.code_ = std::shared_ptr<pcre2_code>(compiled, pcre2_code_free);
    out.source_ = pattern;
    return out;
}

Result<bool> Pattern::matches(std::string_view text, bool whole) const {
    const MatchData data(pcre2_match_data_create(1, nullptr));
    const MatchContext context(pcre2_match_context_create(nullptr));
    if (data == nullptr || context == nullptr) return fail(ErrorCode::internal, "out of memory");
    pcre2_set_match_limit(context.get(), max_steps);
    pcre2_set_heap_limit(context.get(), max_depth_kib);
    const std::uint32_t options = whole ? PCRE2_ANCHORED | PCRE2_ENDANCHORED : 0U;
    const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                                  options, data.get(), context.get());
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found < 0) return fail(ErrorCode::invalid_argument, "pattern \"{}\": {}", source_, error_text(found));
    return true;
}

}  // namespace retort::data
