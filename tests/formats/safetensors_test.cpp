#include "formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "formats/safetensors_writer.h"

namespace retort::formats {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

std::string file_of(std::string_view header, std::size_t data_bytes) {
    const std::uint64_t size = header.size();
    std::string text(reinterpret_cast<const char*>(&size), sizeof size);
    text.append(header);
    text.append(data_bytes, '\1');
    return text;
}

std::string error_of(const std::string& text) {
    const auto file = SafetensorsFile::parse(std::as_bytes(std::span(text)), "test");
    return file ? "no error" : file.error().message;
}

std::string error_of(std::string_view header, std::size_t data_bytes) {
    return error_of(file_of(header, data_bytes));
}

TEST(Safetensors, ReadsWhatTheReferenceWrites) {
    const auto file = SafetensorsFile::open(RETORT_TEST_DATA "/model/mistral/model.safetensors");
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->metadata().at("format"), "pt");
    const SafetensorsTensor* down = file->find("model.layers.1.mlp.down_proj.weight");
    ASSERT_NE(down, nullptr);
    EXPECT_EQ(down->dtype, tensor::DType::f32);
    EXPECT_THAT(down->shape, ElementsAre(32, 40));
    EXPECT_EQ(down->data.size(), 32U * 40U * 4U);
    EXPECT_EQ(file->find("model.layers.2.mlp.down_proj.weight"), nullptr);
}

TEST(Safetensors, WrittenFileReadsBack) {
    const fs::path path = fs::temp_directory_path() / fmt::format("retort_safetensors_{}", ::getpid());
    const std::vector<float> values = {1, 2, 3, 4, 5, 6};
    const std::vector<std::uint16_t> halves = {0x3c00, 0x4000};
    {
        auto writer = SafetensorsWriter::create(
            path, {{"b \"quoted\"", tensor::DType::f32, {2, 3}}, {"a", tensor::DType::bf16, {2}}},
            {{"format", "pt"}});
        ASSERT_TRUE(writer) << writer.error().message;
        ASSERT_TRUE(writer->append(std::as_bytes(std::span(values))));
        EXPECT_FALSE(writer->commit());
        ASSERT_TRUE(writer->append(std::as_bytes(std::span(halves))));
        EXPECT_FALSE(writer->append(std::as_bytes(std::span(halves))));
        ASSERT_TRUE(writer->commit());
    }
    const auto file = SafetensorsFile::open(path);
    ASSERT_TRUE(file) << file.error().message;
    const SafetensorsTensor* tensor = file->find("b \"quoted\"");
    ASSERT_NE(tensor, nullptr);
    EXPECT_THAT(tensor->shape, ElementsAre(2, 3));
    EXPECT_EQ(std::memcmp(tensor->data.data(), values.data(), tensor->data.size()), 0);
    EXPECT_EQ(file->find("a")->dtype, tensor::DType::bf16);
    EXPECT_EQ(file->metadata().at("format"), "pt");
    fs::remove(path);
    EXPECT_FALSE(SafetensorsWriter::create(path, {{"q", tensor::DType::q8_0, {32}}}));
    EXPECT_FALSE(
        SafetensorsWriter::create(path, {{"q", tensor::DType::f32, {2}}, {"q", tensor::DType::f32, {2}}}));
    EXPECT_FALSE(fs::exists(path));
}

TEST(Safetensors, HeadersThatLieAreRefused) {
    EXPECT_EQ(error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8), "no error");
    EXPECT_EQ(error_of(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4),
              "no error");  // a scalar
    EXPECT_EQ(error_of(R"({"a":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}})", 0), "no error");
    EXPECT_THAT(error_of("short"), HasSubstr("shorter than 8"));
    EXPECT_THAT(error_of(std::string(8, '\xff') + "{}"), HasSubstr("claims a header of"));
    EXPECT_THAT(error_of("[]", 0), HasSubstr("no object"));
    EXPECT_THAT(error_of("{\"a\":", 0), HasSubstr("test: header"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7),
                HasSubstr("ends past the file"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9),
                HasSubstr("belong to no tensor"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
                HasSubstr("3 elements of F32"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8),
                HasSubstr("do not lie between"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8),
                HasSubstr("no list of sizes"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})", 8),
                HasSubstr("no list of sizes"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8),
                HasSubstr("has a dimension of"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}})", 8),
                HasSubstr("stored as F4"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"F32","shape":[2]}})", 8), HasSubstr("not described by"));
    EXPECT_THAT(error_of(R"({"a":7})", 8), HasSubstr("not described by"));
    EXPECT_THAT(error_of(R"({"__metadata__":{"n":1}})", 0), HasSubstr("__metadata__ n is no string"));
}

TEST(Safetensors, TensorsMustTileTheData) {
    EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                         R"("b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}})",
                         7),
                HasSubstr("tensor b begins at 3"));
    EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                         R"("b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})",
                         9),
                HasSubstr("tensor b begins at 5"));
}

TEST(Safetensors, EveryTruncationIsAnError) {
    const auto mapped = base::MappedFile::open(RETORT_TEST_DATA "/model/mistral/model.safetensors");
    ASSERT_TRUE(mapped);
    for (std::size_t size = 0; size < mapped->bytes().size(); size += 251) {
        EXPECT_FALSE(SafetensorsFile::parse(mapped->bytes().first(size), "cut")) << size;
    }
}

class Sharded : public testing::Test {
  protected:
    void SetUp() override {
        fs::create_directories(folder_);
        write("one.safetensors", "a");
        write("two.safetensors", "b");
    }
    void TearDown() override { fs::remove_all(folder_); }
    void write(const std::string& name, const std::string& tensor) {
        const std::string header =
            fmt::format(R"({{"{}":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}})", tensor);
        ASSERT_TRUE(base::write_file_atomic(folder_ / name, file_of(header, 4)));
    }
    std::string open_with_index(std::string_view weight_map) {
        EXPECT_TRUE(
            base::write_file_atomic(folder_ / "model.safetensors.index.json",
                                    fmt::format(R"({{"metadata":{{}},"weight_map":{}}})", weight_map)));
        const auto files = open_safetensors(folder_);
        return files ? fmt::format("{} files", files->size()) : files.error().message;
    }
    fs::path folder_ = fs::temp_directory_path() / fmt::format("retort_sharded_{}", ::getpid());
};

TEST_F(Sharded, OpensEveryShard) {
    EXPECT_EQ(open_with_index(R"({"a":"one.safetensors","b":"two.safetensors"})"), "2 files");
}

TEST_F(Sharded, IndexAndShardsMustAgree) {
    EXPECT_THAT(open_with_index(R"({"a":"one.safetensors","c":"one.safetensors"})"),
                HasSubstr("tensor c is not in one.safetensors"));
    EXPECT_THAT(open_with_index(R"({"a":"two.safetensors"})"),
                HasSubstr("tensor b is in two.safetensors, but not"));
    EXPECT_THAT(open_with_index(R"({"a":"three.safetensors"})"), HasSubstr("three.safetensors"));
    EXPECT_THAT(open_with_index(R"({})"), HasSubstr("no weight_map"));
}

TEST_F(Sharded, ShardNamesNeverLeaveTheFolder) {
    EXPECT_THAT(open_with_index(R"({"a":"../one.safetensors"})"),
                HasSubstr("not the name of a file beside it"));
    EXPECT_THAT(open_with_index(R"({"a":"/etc/passwd"})"), HasSubstr("not the name of a file beside it"));
    EXPECT_THAT(open_with_index(R"({"a":".."})"), HasSubstr("not the name of a file beside it"));
}

TEST_F(Sharded, FolderWithoutWeightsIsSaidSo) {
    const auto files = open_safetensors(folder_);
    ASSERT_FALSE(files);
    EXPECT_THAT(files.error().message, HasSubstr("neither model.safetensors nor"));
}

}  // namespace
}  // namespace retort::formats
