#include "audit/suspect.h"

namespace retort::audit {

std::string_view access_name(Access access) {
    switch (access) {
        case Access::text:
            return "text";
        case Access::logprobs:
            return "logprobs";
        case Access::weights:
            return "weights";
    }
    return "";
}

Result<Access> access_from_name(std::string_view name) {
    for (const Access access : {Access::text, Access::logprobs, Access::weights}) {
        if (name == access_name(access)) return access;
    }
    return fail(ErrorCode::invalid_argument, "access \"{}\" is not known; use text, logprobs or weights",
                name);
}

Result<std::vector<std::int32_t>> Suspect::tokens(const QuestionAndAnswer& /*text*/,
                                                  std::int64_t& /*start*/) {
    return fail(ErrorCode::unsupported, "this suspect's tokens cannot be had: that needs its weights");
}

Status Suspect::rows(std::span<const QuestionAndAnswer> /*texts*/, const OnRow& /*on_row*/,
                     const OnProgress& /*progress*/) {
    return fail(ErrorCode::unsupported, "this suspect's distribution cannot be had: that needs its weights");
}

}  // namespace retort::audit
