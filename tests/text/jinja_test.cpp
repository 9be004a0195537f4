// What Jinja 2 gives is in tests/data/text/jinja_cases.json, written by tests/golden/text_jinja.py.
#include "text/jinja.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace retort::text::jinja {
namespace {

using Json = nlohmann::ordered_json;

// Templates of tests/data/text/jinja_cases.json, which a script renders with jinja2.
TEST(Jinja, RendersAsJinja2Does) {
    const auto text = base::read_file(RETORT_TEST_DATA "/text/jinja_cases.json");
    ASSERT_TRUE(text) << text.error().message;
    const Json golden = Json::parse(*text);
    Variables variables;
    for (const auto& [name, value] : golden["variables"].items()) variables.emplace_back(name, value);
    std::size_t compared = 0;
    for (const Json& item : golden["cases"]) {
        const auto source = item["template"].get<std::string>();
        const auto parsed = Template::parse(source);
        std::string got;
        bool failed = true;
        if (parsed) {
            const auto rendered = parsed->render(variables);
            failed = !rendered;
            got = rendered ? *rendered : rendered.error().message;
        } else {
            got = parsed.error().message;
        }
        ++compared;
        if (item["expected"].is_null()) {
            EXPECT_TRUE(failed) << source << "\n must fail, gave " << got;
        } else {
            EXPECT_FALSE(failed) << source << "\n failed: " << got;
            if (!failed) {
                EXPECT_EQ(got, item["expected"].get<std::string>()) << source;
            }
        }
    }
    EXPECT_GT(compared, 140U);
}

std::string error_of(std::string_view source, const Limits& limits = {}) {
    const auto parsed = Template::parse(source);
    if (!parsed) return parsed.error().message;
    const auto rendered = parsed->render({}, limits);
    return rendered ? "rendered: " + *rendered : rendered.error().message;
}

TEST(Jinja, UnsupportedConstructsAreNamedWithTheirLine) {
    const struct {
        std::string_view source;
        std::string_view message;
    } cases[] = {
        {"a\n{% include 'x' %}", "line 2: the tag {% include %} is not supported"},
        {"{% extends 'x' %}", "line 1: the tag {% extends %} is not supported"},
        {"{% block b %}{% endblock %}", "line 1: the tag {% block %} is not supported"},
        {"\n\n{{ 'x' | groupby('y') }}", "line 3: the filter 'groupby' is not supported"},
        {"{{ 1 is hashable }}", "line 1: the test 'hashable' is not supported"},
        {"{{ f(*args) }}", "line 1: unpacked arguments (*) are not supported"},
        {"{% for x in [] recursive %}{% endfor %}", "line 1: a recursive loop is not supported"},
        {"{{ '{:>3}'.format(1) }}", "line 1: format() with a field {:>3} is not supported"},
        {"{{ 'a' | safe + '<' }}", "line 1: the filter 'safe' beside + is not supported"},
        {"{{ 'a'.encode() }}", "line 1: the string method encode() is not supported"},
        {"{{ 9223372036854775807 + 1 }}", "line 1: integers beyond 64 bits are not supported"},
    };
    for (const auto& item : cases) {
        const auto parsed = Template::parse(item.source);
        const auto error = parsed ? parsed->render({}).error() : parsed.error();
        EXPECT_EQ(error.message, item.message);
        EXPECT_EQ(error.code, ErrorCode::unsupported) << item.source;
    }
}

TEST(Jinja, ErrorsNameWhatWentWrong) {
    EXPECT_EQ(error_of("{{ nothing.at_all }}"), "line 1: 'nothing' is undefined, so it has no 'at_all'");
    EXPECT_EQ(error_of("a\nb{{ 1 + 'x' }}"), "line 2: unsupported operand types for +: 'int' and 'str'");
    EXPECT_EQ(error_of("{% if x %}"), "line 1: the template ends before {% endif %}");
    EXPECT_EQ(error_of("{{ 'x }}"), "line 1: a string that does not end");
    EXPECT_EQ(error_of("{{ x"), "line 1: a tag that does not end");
    EXPECT_EQ(error_of("{# x"), "line 1: a comment that does not end");
    EXPECT_EQ(error_of("{% break %}"), "line 1: {% break %} outside a loop");
    EXPECT_EQ(error_of("{{ [1].append(2) }}"),
              "line 1: append() would change a list, which templates may not");
}

TEST(Jinja, HostileTemplatesEndInAnError) {
    const Limits small = {.total_bytes = std::size_t{16} << 20U, .steps = 1'000'000};
    const auto refused = [&](std::string_view source, const Limits& limits) {
        const auto parsed = Template::parse(source);
        const auto code = parsed ? parsed->render({}, limits).error().code : parsed.error().code;
        EXPECT_TRUE(code == ErrorCode::refused || code == ErrorCode::unsupported) << source.substr(0, 80);
    };
    refused("{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            small);
    refused(
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor "
        "%}{% endfor %}",
        {.steps = 100'000});
    refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", small);
    refused("{{ 'x' * 99999999999 }}", small);
    refused("{{ [1] * 99999999999 }}", small);
    refused("{{ range(1000000000) }}", small);
    refused("{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}", small);
    refused("{{ 'a'.ljust(99999999999) }}", small);
    refused("{{ " + std::string(100'000, '(') + "1" + std::string(100'000, ')') + " }}", small);
    refused("{{ " + std::string(100'000, '-') + "1 }}", small);
    std::string nots;
    for (int i = 0; i < 50'000; ++i) nots += "not ";
    refused("{{ " + nots + "1 }}", small);
    std::string sum = "{{ 1";
    for (int i = 0; i < 50'000; ++i) sum += " + 1";
    refused(sum + " }}", small);
    std::string nested;
    for (int i = 0; i < 50'000; ++i) nested += "{% if 1 %}";
    refused(nested, small);
    // Lists that share their parts: comparing or printing them would take exponential time.
    refused(
        "{% set ns = namespace(a=[], b=[]) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}"
        "{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
        {.steps = 1'000'000});
    refused(
        "{% set ns = namespace(a=[]) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ "
        "ns.a }}",
        {.total_bytes = 1'000'000});
    refused(
        "{% set ns = namespace(a=[]) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}"
        "{{ ns.a | tojson }}",
        {.total_bytes = 1'000'000});
}

TEST(Jinja, NamespacesAndMacrosThatReferToThemselvesAreFreed) {
    // Leaks show under the address sanitizer.
    EXPECT_EQ(
        error_of(
            "{% set ns = namespace() %}{% set ns.me = ns %}{% macro f() %}{{ f is defined }}{% endmacro %}"
            "{% set ns.f = f %}{{ ns.f() }}{% for x in [1] %}{{ loop.changed(loop) }}{% endfor %}"),
        "rendered: TrueTrue");
}

}  // namespace
}  // namespace retort::text::jinja
