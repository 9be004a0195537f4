#include "data/spdx.h"

#include <gtest/gtest.h>

namespace retort::data {
namespace {

std::string written(std::string_view text) {
    const auto expression = parse_spdx(text);
    EXPECT_TRUE(expression) << text << ": " << expression.error().message;
    return expression ? write_spdx(*expression) : "";
}

TEST(Spdx, ReadsAndWritesWithTheParenthesesThatAreNeeded) {
    EXPECT_EQ(written("Apache-2.0"), "Apache-2.0");
    EXPECT_EQ(written(" ( MIT )  or Apache-2.0"), "MIT OR Apache-2.0");
    EXPECT_EQ(written("MIT AND (BSD-3-Clause OR (ISC))"), "MIT AND (BSD-3-Clause OR ISC)");
    EXPECT_EQ(written("MIT OR (BSD-3-Clause AND ISC)"), "MIT OR BSD-3-Clause AND ISC");
    EXPECT_EQ(written("GPL-2.0+ WITH Classpath-exception-2.0"), "GPL-2.0+ WITH Classpath-exception-2.0");
    EXPECT_EQ(written("DocumentRef-a:LicenseRef-b AND LicenseRef-c"),
              "DocumentRef-a:LicenseRef-b AND LicenseRef-c");
    // What was written is read as the same.
    EXPECT_EQ(written(written("(A OR B) AND (C OR D AND E)")), "(A OR B) AND (C OR D AND E)");
}

TEST(Spdx, RefusesWhatIsNone) {
    for (const char* bad :
         {"", "MIT AND", "AND MIT", "MIT OR OR ISC", "(MIT", "MIT)", "MIT ISC", "MIT/ISC", "MIT WITH",
          "MIT WITH a WITH b", "+", "a:b", "DocumentRef-:LicenseRef-x", "DocumentRef-x:MIT", "LicenseRef-",
          "LicenseRef-a+", "G++", "a permission in words", "And MIT"}) {
        EXPECT_FALSE(parse_spdx(bad)) << bad;
    }
    EXPECT_FALSE(parse_spdx(std::string(100, '(') + "MIT" + std::string(100, ')')));
    EXPECT_TRUE(parse_spdx(std::string(60, '(') + "MIT" + std::string(60, ')')));
}

std::string objection(std::string_view text, Use use) {
    return licence_objection(*parse_spdx(text), use);
}

TEST(Spdx, SaysWhatStandsAgainstAUse) {
    EXPECT_EQ(objection("Apache-2.0", Use::commercial), "");
    EXPECT_NE(objection("CC-BY-NC-4.0", Use::commercial), "");
    EXPECT_EQ(objection("CC-BY-NC-4.0", Use::distribute), "");
    EXPECT_NE(objection("CC-BY-ND-4.0", Use::distribute), "");
    // Either of two will do; of two together both must.
    EXPECT_EQ(objection("CC-BY-NC-4.0 OR MIT", Use::commercial), "");
    EXPECT_NE(objection("CC-BY-NC-4.0 AND MIT", Use::commercial), "");
    EXPECT_NE(objection("MIT AND LicenseRef-Nobody-Knows", Use::train).find("not in the table"),
              std::string::npos);
    EXPECT_EQ(objection("GPL-3.0-or-later", Use::train), "");
    EXPECT_EQ(licence_duties(*parse_spdx("CC-BY-SA-4.0 AND MIT AND MIT")).size(), 2U);
    EXPECT_TRUE(licence_duties(*parse_spdx("CC0-1.0")).empty());
}

}  // namespace
}  // namespace retort::data
