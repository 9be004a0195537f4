#include "http/headers.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace retort::http {
namespace {

std::string text(const Headers& headers) {
    std::string out;
    for (const auto& [name, value] : headers) ((((out += name) += '=') += value)) += ';';
    return out;
}

TEST(Headers, KeepOrderAndAreFoundWithoutCase) {
    Headers headers{{"Content-Type", "a"}, {"X", ""}};
    headers.add("content-type", "b");
    EXPECT_EQ(text(headers), "Content-Type=a;X=;content-type=b;");
    EXPECT_EQ(headers.get("CONTENT-TYPE"), "a");
    EXPECT_EQ(headers.find("x").value_or("none"), "");
    EXPECT_FALSE(headers.find("Content-Typ"));
    EXPECT_EQ(headers.get("y", "otherwise"), "otherwise");
    EXPECT_EQ(headers.size(), 3U);
    headers.set("CONTENT-type", "a longer value");
    headers.set("New", "c");
    EXPECT_EQ(text(headers), "Content-Type=a longer value;X=;content-type=b;New=c;");
}

// A value may be a part of the same headers, also where adding it needs more room.
TEST(Headers, TakeTheirOwnValues) {
    Headers headers{{"A", std::string(100, 'a')}};
    for (int i = 0; i < 200; ++i) headers.add(headers.get("A"), headers.get("A"));
    for (int i = 0; i < 200; ++i) headers.set("A", headers.get("A"));
    EXPECT_EQ(headers.size(), 201U);
    EXPECT_EQ(headers.get("A"), std::string(100, 'a'));
    for (const auto& [name, value] : headers) EXPECT_EQ(value, std::string(100, 'a'));
}

TEST(Headers, CopiesAreTheirOwn) {
    Headers first{{"A", "1"}};
    Headers second = first;
    first.set("A", "2");
    const Headers third = std::move(first);
    EXPECT_EQ(text(second), "A=1;");
    EXPECT_EQ(text(third), "A=2;");
}

}  // namespace
}  // namespace retort::http
