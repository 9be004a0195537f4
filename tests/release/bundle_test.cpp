// A sealed release: every byte of it is held to what was signed.
#include "release/bundle.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/file.h"
#include "base/random.h"

namespace retort::release {
namespace {

namespace fs = std::filesystem;

class Bundle : public ::testing::Test {
  protected:
    void SetUp() override {
        folder_ = fs::path(::testing::TempDir()) / "retort_bundle";
        fs::remove_all(folder_);
        options_.output = folder_ / "release";
        fs::create_directories(folder_);
        options_.name = "student";
        options_.date = "2026-11-29T00:00:00Z";
        options_.model_sha256 = std::string(64, 'a');
        options_.overrides = {{"calibration", "for a test"}};
        options_.records = {{std::string(64, 'b'), std::string(64, 'c'), 3}};
        options_.files = {{"model/config.json", "{\"a\": 1}\n", {}},
                          {"model/model.safetensors", std::string(300, '\x07'), {}},
                          {"policy.toml", "name = \"p\"\n", {}}};
        key_ = make_signing_key();
        ASSERT_TRUE(seal(options_, key_));
    }
    fs::path folder_;
    SealOptions options_;
    SigningKey key_;
};

TEST_F(Bundle, IsAsItWasSealed) {
    const auto bundle = verify(options_.output, {public_key_hex(key_)});
    ASSERT_TRUE(bundle) << bundle.error().message;
    EXPECT_EQ(bundle->name, "student");
    EXPECT_EQ(bundle->files, 3);
    EXPECT_EQ(bundle->model, options_.output / "model");
    ASSERT_EQ(bundle->overrides.size(), 1U);
    EXPECT_EQ(bundle->overrides[0].reason, "for a test");
    EXPECT_TRUE(verify(options_.output, {}));
    EXPECT_FALSE(verify(options_.output, {public_key_hex(make_signing_key())}));
    EXPECT_FALSE(seal(options_, key_)) << "what is sealed is not written over";
}

TEST_F(Bundle, EveryChangedByteIsFound) {
    base::RandomStream random(11);
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(options_.output)) {
        if (entry.is_regular_file()) files.push_back(entry.path());
    }
    ASSERT_EQ(files.size(), 5U);
    for (const fs::path& file : files) {
        const std::string bytes = *base::read_file(file);
        for (std::size_t at = 0; at < bytes.size(); ++at) {
            std::string changed = bytes;
            changed[at] = static_cast<char>(changed[at] ^ (1U << random.below(8)));
            std::ofstream(file, std::ios::binary) << changed;
            ASSERT_FALSE(verify(options_.output, {public_key_hex(key_)})) << file << " byte " << at;
            ASSERT_FALSE(verify(options_.output, {})) << file << " byte " << at;
        }
        std::ofstream(file, std::ios::binary) << bytes << "\n";
        EXPECT_FALSE(verify(options_.output, {})) << file << " grew";
        fs::remove(file);
        EXPECT_FALSE(verify(options_.output, {})) << file << " is gone";
        std::ofstream(file, std::ios::binary) << bytes;
        ASSERT_TRUE(verify(options_.output, {}));
    }
    std::ofstream(options_.output / "model" / "more") << "x";
    EXPECT_FALSE(verify(options_.output, {}));
    fs::remove(options_.output / "model" / "more");
    fs::create_symlink("/etc/hostname", options_.output / "model" / "link");
    EXPECT_FALSE(verify(options_.output, {}));
}

TEST_F(Bundle, APathCannotLeadOutOfIt) {
    for (const char* path :
         {"../x", "/x", "a/../../x", "a//b", "./a", "a/", "release.json", "release.sig", ""}) {
        SealOptions other = options_;
        other.output = folder_ / "other";
        other.files = {{path, "x", {}}};
        EXPECT_FALSE(seal(other, key_)) << path;
    }
}

TEST_F(Bundle, KeysAreReadAsTheyAreWritten) {
    ASSERT_TRUE(base::write_file_atomic(folder_ / "key", std::string_view(signing_key_text(key_))));
    const auto read = read_signing_key(folder_ / "key");
    ASSERT_TRUE(read);
    EXPECT_EQ(read->seed, key_.seed);
    ASSERT_TRUE(base::write_file_atomic(folder_ / "pub",
                                        std::string_view("# ours\n" + public_key_hex(key_) + "\r\n")));
    EXPECT_EQ(*read_public_keys(folder_ / "pub"), std::vector<std::string>{public_key_hex(key_)});
    ASSERT_TRUE(base::write_file_atomic(folder_ / "pub", std::string_view("# none\n")));
    EXPECT_FALSE(read_public_keys(folder_ / "pub"));
}

}  // namespace
}  // namespace retort::release
