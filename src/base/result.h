// Errors as values. Every part reports an expected failure (bad input, a dead peer, a full disk) as a
// Result<T>; exceptions from libraries are caught at the call and turned into one. Knows nothing above it.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace retort::base {

enum class ErrorCode {
    invalid_argument,  // the caller's value is wrong: exit status 2 at the command line
    not_found,
    io,           // the operating system refused: disk full, permission, short read
    format,       // a file or a message that is not what it claims to be
    unsupported,  // well formed, but something this program does not do; the message names it
    network,
    refused,    // a policy said no: terms, licence, budget
    cancelled,  // Ctrl-C, or a peer that went away
    internal,
};

struct Error {
    ErrorCode code = ErrorCode::internal;
    std::string message;  // names the file, the value and the mend
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

// fail(ErrorCode::format, "{}: tensor {} ends past the file", path, name) converts to any Result<T>.
template <typename... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> text, Args&&... args) {
    return tl::unexpected<Error>(Error{code, fmt::format(text, std::forward<Args>(args)...)});
}

// Passes an error on with words in front of it, as in "model.gguf: " + message.
[[nodiscard]] inline tl::unexpected<Error> fail_from(Error error, std::string_view context = {}) {
    if (!context.empty()) error.message = fmt::format("{}: {}", context, error.message);
    return tl::unexpected<Error>(std::move(error));
}

}  // namespace retort::base

namespace retort {
using base::ErrorCode;
using base::fail;
using base::fail_from;
using base::Result;
using base::Status;
}  // namespace retort

#define RETORT_CONCAT_INNER(a, b) a##b
#define RETORT_CONCAT(a, b) RETORT_CONCAT_INNER(a, b)

// RETORT_TRY(auto config, read_config(path)); returns the error from the enclosing function, else binds the
// value. The names carry a counter, so that one may stand inside another's lambda.
#define RETORT_TRY(declaration, ...) \
    RETORT_TRY_NAMED(RETORT_CONCAT(try_result_, __COUNTER__), declaration, __VA_ARGS__)
#define RETORT_TRY_NAMED(name, declaration, ...)                          \
    auto name = (__VA_ARGS__);                                            \
    if (!(name)) return ::tl::make_unexpected(std::move((name).error())); \
    declaration = std::move(*(name))

// The same for a Status, or for a Result whose value is not wanted.
#define RETORT_CHECK(...) RETORT_CHECK_NAMED(RETORT_CONCAT(check_result_, __COUNTER__), __VA_ARGS__)
#define RETORT_CHECK_NAMED(name, ...)                                                                    \
    do {                                                                                                 \
        if (auto name = (__VA_ARGS__); !(name)) return ::tl::make_unexpected(std::move((name).error())); \
    } while (false)
