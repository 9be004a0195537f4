// A sealed release: a folder of the model and everything said of it, the list of its files by hash, and an
// Ed25519 signature of that list (docs/formats/release_bundle.md). Verifying needs the folder and a public
// key, no network. Knows nothing of what was checked.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/json.h"

namespace retort::release {

struct SigningKey {
    std::array<std::uint8_t, 32> seed{};
};
SigningKey make_signing_key();
std::string signing_key_text(const SigningKey& key);  // 64 hexadecimal digits and a line's end
Result<SigningKey> read_signing_key(const std::filesystem::path& file);
std::string public_key_hex(const SigningKey& key);
// A file of keys, one a line; empty lines and lines that begin with '#' do not count.
Result<std::vector<std::string>> read_public_keys(const std::filesystem::path& file);

struct Override {
    std::string item;
    std::string reason;
};

struct SealedRecords {
    std::string merkle_root;
    std::string sha256;  // of the file
    std::int64_t records = 0;
};

struct BundleFile {
    std::string path;    // within the bundle, with '/' between folders
    std::string source;  // text to be written; or
    std::filesystem::path copy_of;
};

struct SealOptions {
    std::filesystem::path output;  // must not be there
    std::string name;
    std::string date;  // UTC
    std::string model_sha256;
    std::vector<Override> overrides;
    std::vector<SealedRecords> records;
    std::vector<BundleFile> files;
};
// Copies, lists and signs. The folder appears whole or not at all.
Status seal(const SealOptions& options, const SigningKey& key);

struct VerifiedBundle {
    std::filesystem::path folder;
    std::string name;
    std::string date;
    std::string public_key;  // that signed it
    std::string model_sha256;
    std::filesystem::path model;  // what to load
    std::vector<Override> overrides;
    std::vector<SealedRecords> records;
    std::int64_t files = 0;
    std::uint64_t bytes = 0;
};
// Every byte of every file; files that are not listed, links and other kinds are refused. keys: the ones that
// are trusted; empty: whichever signed it, which proves only that nothing was changed after that.
Result<VerifiedBundle> verify(const std::filesystem::path& folder, const std::vector<std::string>& keys);
// That the file of records is one that the bundle names, line by line.
Status verify_records(const VerifiedBundle& bundle, const std::filesystem::path& records);

// For a fuzz target: the list alone.
Status parse_manifest_text(std::string_view text);

}  // namespace retort::release
