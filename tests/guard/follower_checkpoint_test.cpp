// The bytes that a guard which watches keeps: read as written, and refused when anything is missing.
#include "guard/follower_checkpoint.h"

#include <gtest/gtest.h>

namespace retort::guard {
namespace {

FollowerCheckpoint example() {
    store::ShortHash id{};
    id[3] = 7;
    return {5, {{"one.events", 4096}, {"two.events", 0}}, {id, store::ShortHash{}}, "a guard's state"};
}

TEST(FollowerCheckpoint, IsReadAsItWasWritten) {
    const auto read = read_checkpoint(write_checkpoint(example()));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, example());
    EXPECT_TRUE(read_checkpoint(write_checkpoint({})));
}

TEST(FollowerCheckpoint, DamageIsAnError) {
    const std::string bytes = write_checkpoint(example());
    for (std::size_t size = 0; size < bytes.size(); ++size)
        EXPECT_FALSE(read_checkpoint(std::string_view(bytes).substr(0, size))) << size;
    EXPECT_FALSE(read_checkpoint(bytes + "x"));
    EXPECT_FALSE(read_checkpoint("RFOLLOW2" + bytes.substr(8)));
    FollowerCheckpoint elsewhere = example();
    elsewhere.places["../one.events"] = 1;
    EXPECT_FALSE(read_checkpoint(write_checkpoint(elsewhere)));
}

TEST(FollowerCheckpoint, APartNamesAFileAndABeginningBeforeItsEnd) {
    const ReadPart part{"one.events", 8, 4096};
    const auto read = read_part(write_part(part));
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(*read, part);
    for (const ReadPart& wrong : {ReadPart{"", 8, 9}, ReadPart{"a/b", 8, 9}, ReadPart{"a", 9, 8}})
        EXPECT_FALSE(read_part(write_part(wrong)));
    EXPECT_FALSE(read_part(write_part(part) + "x"));
    EXPECT_FALSE(read_part(write_part(part).substr(1)));
}

}  // namespace
}  // namespace retort::guard
