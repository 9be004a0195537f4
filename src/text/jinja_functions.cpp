// Global functions: range, namespace, dict, raise_exception, strftime_now.
#include <algorithm>
#include <array>
#include <ctime>

#include "text/jinja_interpreter.h"

namespace retort::text::jinja {
namespace {

constexpr std::int64_t longest_range = 100'000;  // as the sandbox has it

Result<Value> make_range(Interpreter& interpreter, const Arguments& arguments) {
    if (!arguments.named.empty() || arguments.positional.empty() || arguments.positional.size() > 3) {
        return fail(ErrorCode::invalid_argument, "range() takes one to three arguments");
    }
    for (const Value& value : arguments.positional) {
        if (!value.is_integer()) {
            return fail(ErrorCode::invalid_argument, "range() takes integers, not '{}'", type_name(value));
        }
    }
    const bool single = arguments.positional.size() == 1;
    const std::int64_t start = single ? 0 : arguments.positional[0].as_integer();
    const std::int64_t stop = arguments.positional[single ? 0 : 1].as_integer();
    const std::int64_t step = arguments.positional.size() == 3 ? arguments.positional[2].as_integer() : 1;
    if (step == 0) return fail(ErrorCode::invalid_argument, "range() with a step of zero");
    std::vector<Value> items;
    for (__int128 at = start; step > 0 ? at < stop : at > stop; at += step) {
        if (static_cast<std::int64_t>(items.size()) >= longest_range) {
            return fail(ErrorCode::refused, "range() of more than {} items", longest_range);
        }
        items.push_back(Value::integer(static_cast<std::int64_t>(at)));
    }
    return interpreter.make_list(std::move(items));
}

Result<Value> time_text(Interpreter& interpreter, const Arguments& arguments) {
    RETORT_CHECK(arguments.check("strftime_now()", {"format"}, 1));
    const Value* format = arguments.get(0, "format");
    if (!format->is_string() || format->text().size() > 256) {
        return fail(ErrorCode::invalid_argument, "strftime_now() takes a format of at most 256 bytes");
    }
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    // A leading character tells an empty result from one that does not fit.
    const std::string spaced = "x" + format->text();
    std::array<char, 4096> buffer{};
    const std::size_t length = std::strftime(buffer.data(), buffer.size(), spaced.c_str(), &local);
    return interpreter.make_string(
        std::string(buffer.data(), length).substr(std::min<std::size_t>(length, 1)));
}

}  // namespace

std::string_view find_function(std::string_view name) {
    constexpr std::string_view known[] = {"range", "namespace", "dict", "raise_exception", "strftime_now"};
    const auto* const found = std::find(std::begin(known), std::end(known), name);
    return found == std::end(known) ? std::string_view() : *found;
}

Result<Value> Interpreter::call_function(std::string_view name, const Arguments& arguments) {
    if (name == "range") return make_range(*this, arguments);
    if (name == "strftime_now") return time_text(*this, arguments);
    if (name == "raise_exception") {
        RETORT_CHECK(arguments.check("raise_exception()", {"message"}, 1));
        RETORT_TRY(const std::string text, to_text(*arguments.get(0, "message")));
        return error(ErrorCode::invalid_argument, "the chat template says: {}", text);
    }
    // namespace() and dict(): the entries of one dict, then the named ones.
    Dict dict;
    if (arguments.positional.size() > 1)
        return error(ErrorCode::invalid_argument, "{}() takes one positional argument", name);
    if (!arguments.positional.empty()) {
        const Dict* from = arguments.positional[0].as_dict();
        if (from == nullptr) {
            return error(ErrorCode::unsupported, "{}() of a '{}' is not supported", name,
                         type_name(arguments.positional[0]));
        }
        RETORT_CHECK(charge(from->entries().size() * sizeof(Dict::Entry) * 3));
        dict = *from;
    }
    RETORT_CHECK(charge(arguments.named.size() * sizeof(Dict::Entry) * 3));
    for (const auto& [key, value] : arguments.named) dict.set(Value::string(std::string(key)), value);
    if (name == "dict") return Value::dict(std::move(dict));
    const auto space = std::make_shared<Namespace>();
    for (const Dict::Entry& entry : dict.entries()) {
        if (!entry.key.is_string())
            return error(ErrorCode::invalid_argument, "a namespace's keys must be strings");
        if (entry.key.text().starts_with('_')) {
            return error(ErrorCode::refused, "a namespace's attribute cannot begin with an underscore: '{}'",
                         entry.key.text());
        }
        space->attributes.emplace_back(entry.key.text(), entry.value);
    }
    namespaces_.push_back(space);
    return Value(Value::Data(space));
}

}  // namespace retort::text::jinja
