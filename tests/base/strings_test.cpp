#include "base/strings.h"

#include <gtest/gtest.h>

namespace retort::base {
namespace {

TEST(Strings, TrimmedOfBlanksAtBothEndsOnly) {
    EXPECT_EQ(trimmed(" \t\r\na b\n "), "a b");
    EXPECT_EQ(trimmed("a"), "a");
    EXPECT_EQ(trimmed(" \n"), "");
    EXPECT_EQ(trimmed(""), "");
}

TEST(Strings, OneLineStaysOne) {
    EXPECT_EQ(one_line("a\nb\r\tc\x1b[2J\x7f", 100), "a?b??c?[2J?");
    EXPECT_EQ(one_line("abcdef", 3), "abc");
}

TEST(Strings, EditDistanceCountsInsertionsDeletionsAndChanges) {
    EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
    EXPECT_EQ(edit_distance("sitting", "kitten"), 3U);
    EXPECT_EQ(edit_distance("", "abc"), 3U);
    EXPECT_EQ(edit_distance("abc", ""), 3U);
    EXPECT_EQ(edit_distance("flaw", "lawn"), 2U);
    EXPECT_EQ(edit_distance("pull", "pull"), 0U);
}

TEST(Strings, filled_lines_have_no_ends_and_none_is_empty) {
    EXPECT_EQ(filled_lines("a \r\n\n  \n b\tc\nlast"), (std::vector<std::string_view>{"a", " b\tc", "last"}));
    EXPECT_TRUE(filled_lines("").empty());
}

}  // namespace
}  // namespace retort::base
