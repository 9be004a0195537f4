#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <numeric>

#include "formats/gguf_writer.h"

namespace retort::formats {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// A file put together by hand, so that it may lie.
class Bytes {
  public:
    template <typename T>
    Bytes& put(T value) {
        text_.append(reinterpret_cast<const char*>(&value), sizeof value);
        return *this;
    }
    Bytes& raw(std::string_view text) {
        text_.append(text);
        return *this;
    }
    Bytes& string(std::string_view text) { return put(std::uint64_t{text.size()}).raw(text); }
    Bytes& header(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
        return raw("GGUF").put(version).put(tensors).put(keys);
    }
    Bytes& tensor(std::string_view name, std::vector<std::uint64_t> sizes, std::uint32_t type,
                  std::uint64_t offset) {
        string(name).put(static_cast<std::uint32_t>(sizes.size()));
        for (const std::uint64_t size : sizes) put(size);
        return put(type).put(offset);
    }
    Bytes& align(std::size_t alignment = 32) {
        text_.resize((text_.size() + alignment - 1) / alignment * alignment, '\0');
        return *this;
    }
    Bytes& zeros(std::size_t count) {
        text_.append(count, '\0');
        return *this;
    }
    [[nodiscard]] Result<GgufFile> parse() const {
        return GgufFile::parse(std::as_bytes(std::span(text_)), "test");
    }
    [[nodiscard]] std::string error() const {
        const auto file = parse();
        return file ? "no error" : file.error().message;
    }

  private:
    std::string text_;
};

constexpr std::uint32_t u32_type = 4;
constexpr std::uint32_t string_type = 8;
constexpr std::uint32_t array_type = 9;

TEST(Gguf, ReadsWhatTheReferenceWrites) {
    const auto file = GgufFile::open(RETORT_TEST_DATA "/formats/mistral.gguf");
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->version(), 3U);
    EXPECT_EQ(*file->string("general.architecture"), "llama");
    EXPECT_EQ(*file->integer("test.u8"), 200);
    EXPECT_EQ(*file->integer("test.i8"), -100);
    EXPECT_EQ(*file->integer("test.u16"), 60000);
    EXPECT_EQ(*file->integer("test.i16"), -30000);
    EXPECT_EQ(*file->integer("test.u32"), 4000000000);
    EXPECT_EQ(*file->integer("test.i32"), -2000000000);
    EXPECT_THAT(file->integer("test.u64").error().message, HasSubstr("9223372036854775808"));
    EXPECT_EQ(*file->integer("test.i64"), -(std::int64_t{1} << 62));
    EXPECT_EQ(*file->number("test.f32"), 1.5);
    EXPECT_EQ(*file->number("test.f64"), 0.1);
    EXPECT_EQ(*file->boolean("test.bool"), true);
    EXPECT_EQ(*file->string("test.string"), "Ġé");
    EXPECT_THAT(*(*file->array("test.floats"))->numbers(), ElementsAre(0.5, -0.25));
    EXPECT_THAT(*(*file->array("test.bools"))->integers(), ElementsAre(1, 0, 1));
    const GgufArray* nested = *file->array("test.nested");
    ASSERT_EQ(nested->arrays.size(), 2U);
    EXPECT_THAT(*std::get<GgufArray>(nested->arrays[0].value).integers(), ElementsAre(1, 2));
    const auto tokens = *file->strings("tokenizer.ggml.tokens");
    EXPECT_EQ(tokens.size(), 107U);
    EXPECT_EQ(tokens[106], "t106");

    EXPECT_EQ(file->tensors().size(), 21U);
    const GgufTensor* gate = file->find_tensor("blk.0.ffn_gate.weight");
    ASSERT_NE(gate, nullptr);
    EXPECT_EQ(gate->dtype, tensor::DType::q8_0);
    EXPECT_THAT(gate->shape, ElementsAre(40, 32));
    EXPECT_EQ(gate->data.size(), 40U * 34U);
}

TEST(Gguf, WrongKindOfValueIsNamed) {
    const auto file = GgufFile::open(RETORT_TEST_DATA "/formats/mistral.gguf");
    ASSERT_TRUE(file);
    EXPECT_THAT(file->integer("test.string").error().message,
                HasSubstr("test.string is string, not an integer"));
    EXPECT_THAT(file->string("test.u8").error().message, HasSubstr("test.u8 is u8, not a string"));
    EXPECT_THAT(file->strings("test.floats").error().message, HasSubstr("array of f32"));
    EXPECT_THAT(file->integer("no.such").error().message, HasSubstr("lack no.such"));
    EXPECT_EQ(*file->integer_or("no.such", 7), 7);
    EXPECT_FALSE(file->integer_or("test.string", 7));
}

TEST(Gguf, WrittenFileReadsBack) {
    const fs::path path = fs::temp_directory_path() / fmt::format("retort_gguf_{}.gguf", ::getpid());
    GgufMetadata metadata;
    metadata.emplace_back("general.architecture", GgufValue::of_string("test"));
    metadata.emplace_back("general.alignment", GgufValue::of_u32(64));
    metadata.emplace_back("a.i8", GgufValue{GgufType::i8, std::int64_t{-7}});
    metadata.emplace_back("a.u16", GgufValue{GgufType::u16, std::uint64_t{65535}});
    metadata.emplace_back("a.i64", GgufValue{GgufType::i64, std::int64_t{-1}});
    metadata.emplace_back("a.f64", GgufValue{GgufType::f64, 0.1});
    metadata.emplace_back("a.bool", GgufValue::of_bool(true));
    metadata.emplace_back("a.strings", GgufValue::of_strings({"one", "", "three"}));
    metadata.emplace_back("a.numbers", GgufValue::of_i32s({1, -2}));
    std::vector<float> values(33);
    std::iota(values.begin(), values.end(), 1.0F);
    {
        auto writer = GgufWriter::create(
            path, metadata, {{"first", tensor::DType::f32, {11, 3}}, {"second", tensor::DType::f32, {33}}});
        ASSERT_TRUE(writer) << writer.error().message;
        const auto bytes = std::as_bytes(std::span(values));
        ASSERT_TRUE(writer->append(bytes.first(40)));
        ASSERT_TRUE(writer->append(bytes.subspan(40)));
        EXPECT_FALSE(writer->commit());  // the second is missing
        ASSERT_TRUE(writer->append(bytes));
        EXPECT_FALSE(writer->append(bytes));  // no third
        EXPECT_FALSE(fs::exists(path));
        ASSERT_TRUE(writer->commit());
    }
    const auto file = GgufFile::open(path);
    ASSERT_TRUE(file) << file.error().message;
    ASSERT_EQ(file->metadata().size(), metadata.size());
    for (std::size_t i = 0; i < metadata.size(); ++i) {
        EXPECT_EQ(file->metadata()[i].first, metadata[i].first);
        EXPECT_EQ(file->metadata()[i].second.type, metadata[i].second.type);
    }
    EXPECT_EQ(*file->integer("a.i8"), -7);
    EXPECT_EQ(*file->integer("a.i64"), -1);
    EXPECT_EQ(*file->number("a.f64"), 0.1);
    EXPECT_THAT(*file->strings("a.strings"), ElementsAre("one", "", "three"));
    EXPECT_THAT(*(*file->array("a.numbers"))->integers(), ElementsAre(1, -2));
    for (const char* name : {"first", "second"}) {
        const GgufTensor* tensor = file->find_tensor(name);
        ASSERT_NE(tensor, nullptr);
        EXPECT_EQ(std::memcmp(tensor->data.data(), values.data(), values.size() * sizeof(float)), 0);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor->data.data()) % 64, 0U);
    }
    EXPECT_THAT(file->find_tensor("first")->shape, ElementsAre(11, 3));
    fs::remove(path);
}

TEST(Gguf, WriterRefusesWhatNobodyCouldRead) {
    const fs::path path = fs::temp_directory_path() / fmt::format("retort_gguf_refused_{}.gguf", ::getpid());
    EXPECT_FALSE(GgufWriter::create(path, {}, {{"a", tensor::DType::q8_0, {2, 33}}}));
    EXPECT_FALSE(
        GgufWriter::create(path, {}, {{"a", tensor::DType::f32, {2}}, {"a", tensor::DType::f32, {2}}}));
    EXPECT_FALSE(GgufWriter::create(path, {}, {{"a", tensor::DType::f32, {}}}));
    GgufMetadata twice;
    twice.emplace_back("k", GgufValue::of_u32(1));
    twice.emplace_back("k", GgufValue::of_u32(2));
    EXPECT_FALSE(GgufWriter::create(path, twice, {}));
    EXPECT_FALSE(fs::exists(path));
}

TEST(Gguf, Version2Reads) {
    Bytes bytes;  // outlives the file, which is a view of it
    bytes.header(0, 1, 2).string("k").put(u32_type).put(std::uint32_t{5});
    const auto file = bytes.parse();
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(*file->integer("k"), 5);
}

TEST(Gguf, WhatIsNoGgufIsSaidSo) {
    EXPECT_THAT(Bytes().error(), HasSubstr("not a GGUF file"));
    EXPECT_THAT(Bytes().raw("PK\3\4....").error(), HasSubstr("not a GGUF file"));
    EXPECT_THAT(Bytes().header(0, 0, 1).error(), HasSubstr("version 1"));
    EXPECT_THAT(Bytes().raw("GGUF").put(std::uint32_t{0x03000000}).zeros(16).error(),
                HasSubstr("big-endian"));
}

TEST(Gguf, CountsThatLieAreRefusedBeforeAnythingIsAllocated) {
    EXPECT_THAT(Bytes().header(std::uint64_t{1} << 60, 0).error(), HasSubstr("tensors in"));
    EXPECT_THAT(Bytes().header(0, std::uint64_t{1} << 60).error(), HasSubstr("metadata entries"));
    EXPECT_THAT(Bytes()
                    .header(0, 1)
                    .string("k")
                    .put(array_type)
                    .put(string_type)
                    .put(~std::uint64_t{0})
                    .zeros(64)
                    .error(),
                HasSubstr("elements of string"));
    EXPECT_THAT(Bytes()
                    .header(0, 1)
                    .string("k")
                    .put(array_type)
                    .put(u32_type)
                    .put(std::uint64_t{1} << 62)
                    .zeros(64)
                    .error(),
                HasSubstr("elements of u32"));
    EXPECT_THAT(Bytes().header(0, 1).string("k").put(string_type).put(~std::uint64_t{0}).zeros(64).error(),
                HasSubstr("cut short"));
    EXPECT_THAT(Bytes().header(0, 1).put(~std::uint64_t{0}).zeros(64).error(), HasSubstr("cut short"));
}

TEST(Gguf, DeepArraysAreRefused) {
    Bytes bytes;
    bytes.header(0, 1).string("k").put(array_type);
    for (int i = 0; i < 1000; ++i) bytes.put(array_type).put(std::uint64_t{1});
    EXPECT_THAT(bytes.error(), HasSubstr("nested deeper"));
}

TEST(Gguf, DoublesAreRefused) {
    Bytes keys;
    keys.header(0, 2)
        .string("k")
        .put(u32_type)
        .put(std::uint32_t{5})
        .string("k")
        .put(u32_type)
        .put(std::uint32_t{6});
    EXPECT_THAT(keys.error(), HasSubstr("k stands twice"));
    EXPECT_THAT(Bytes().header(2, 0).tensor("t", {8}, 0, 0).tensor("t", {8}, 0, 32).align().zeros(64).error(),
                HasSubstr("t stands twice"));
}

TEST(Gguf, TensorsMustLieWithinTheFileAndApart) {
    EXPECT_EQ(Bytes().header(2, 0).tensor("a", {8}, 0, 0).tensor("b", {8}, 0, 32).align().zeros(64).error(),
              "no error");
    EXPECT_THAT(Bytes().header(2, 0).tensor("a", {8}, 0, 0).tensor("b", {8}, 0, 32).align().zeros(63).error(),
                HasSubstr("tensor b ends past the file"));
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {8}, 0, ~std::uint64_t{31}).align().zeros(64).error(),
                HasSubstr("ends past the file"));
    EXPECT_THAT(Bytes().header(2, 0).tensor("a", {9}, 0, 0).tensor("b", {8}, 0, 32).align().zeros(64).error(),
                HasSubstr("overlap"));
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {8}, 0, 8).align().zeros(64).error(),
                HasSubstr("alignment"));
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {8}, 0, 0).error(), HasSubstr("ends past the file"));
}

TEST(Gguf, ShapesThatOverflowAreRefused) {
    const std::uint64_t half = std::uint64_t{1} << 32U;
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {half, half}, 0, 0).align().zeros(64).error(),
                HasSubstr("has a dimension of"));
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {0}, 0, 0).align().zeros(64).error(),
                HasSubstr("has a dimension of 0"));
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {~std::uint64_t{0}}, 0, 0).align().zeros(64).error(),
                HasSubstr("has a dimension of"));
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {1, 1, 1, 1, 1}, 0, 0).align().zeros(64).error(),
                HasSubstr("5 dimensions"));
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {33}, 8, 0).align().zeros(64).error(),
                HasSubstr("no multiple of the 32"));
}

TEST(Gguf, TypesThatAreNotReadAreNamed) {
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {256}, 16, 0).align().zeros(64).error(),
                HasSubstr("IQ2_XXS"));
    EXPECT_THAT(Bytes().header(1, 0).tensor("a", {256}, 99, 0).align().zeros(64).error(),
                HasSubstr("type 99"));
    EXPECT_THAT(Bytes().header(0, 1).string("k").put(std::uint32_t{13}).zeros(16).error(),
                HasSubstr("no metadata type has the number 13"));
    EXPECT_THAT(Bytes().header(0, 1).string("k").put(std::uint32_t{7}).put(std::uint8_t{2}).error(),
                HasSubstr("neither 0 nor 1"));
}

TEST(Gguf, AlignmentMustBeAPowerOfTwo) {
    for (const std::uint32_t bad : {0U, 24U, 1U << 31U}) {
        EXPECT_THAT(Bytes().header(0, 1).string("general.alignment").put(u32_type).put(bad).error(),
                    HasSubstr("power of two"));
    }
}

TEST(Gguf, EveryTruncationIsAnError) {
    const auto mapped = base::MappedFile::open(RETORT_TEST_DATA "/formats/mistral.gguf");
    ASSERT_TRUE(mapped);
    for (std::size_t size = 0; size + 64 < mapped->bytes().size(); size += 97) {
        EXPECT_FALSE(GgufFile::parse(mapped->bytes().first(size), "cut")) << size;
    }
}

}  // namespace
}  // namespace retort::formats
