#include "release/bundle.h"

#include <sodium.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "base/file.h"
#include "base/hash.h"
#include "base/hex.h"
#include "base/strings.h"
#include "data/manifest.h"

namespace retort::release {

namespace fs = std::filesystem;
using formats::Json;

namespace {

constexpr std::string_view format_name = "retort-release-1";
constexpr std::string_view manifest_name = "release.json";
constexpr std::string_view signature_name = "release.sig";
constexpr std::size_t most_manifest = std::size_t{64} << 20U;

struct KeyPair {
    std::array<std::uint8_t, crypto_sign_PUBLICKEYBYTES> open{};
    std::array<std::uint8_t, crypto_sign_SECRETKEYBYTES> secret{};
};

KeyPair key_pair(const SigningKey& key) {
    KeyPair pair;
    crypto_sign_seed_keypair(pair.open.data(), pair.secret.data(), key.seed.data());
    return pair;
}

const unsigned char* bytes_of(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

struct ListedFile {
    std::uint64_t bytes = 0;
    std::string sha256;
};
struct Listing {
    VerifiedBundle bundle;
    std::map<std::string, ListedFile> files;
};

// A path within a folder: no way out of it, no second spelling of the same file.
bool is_plain_path(std::string_view path) {
    if (path.empty() || path.front() == '/' || path.find('\\') != std::string_view::npos) return false;
    return fs::path(path).lexically_normal().string() == path && !path.starts_with("..") && path != "." &&
           !path.ends_with('/');
}

Result<Json> array_of(const Json& json, const char* key) {
    const Json* value = formats::json_find(json, key);
    if (value == nullptr || !value->is_array()) return fail(ErrorCode::format, "{} is no list", key);
    for (const Json& each : *value) {
        if (!each.is_object()) return fail(ErrorCode::format, "{} holds something that is no object", key);
    }
    return *value;
}

Result<Listing> parse_listing(std::string_view text) {
    RETORT_TRY(const Json json, formats::parse_json(text, manifest_name));
    if (!json.is_object()) return fail(ErrorCode::format, "{}: no object", manifest_name);
    RETORT_TRY(const std::string format, formats::json_string(json, "format"));
    if (format != format_name) {
        return fail(ErrorCode::unsupported, "{}: format is \"{}\"; this program reads \"{}\"", manifest_name,
                    format, format_name);
    }
    Listing listing;
    VerifiedBundle& bundle = listing.bundle;
    RETORT_TRY(bundle.name, formats::json_string(json, "name"));
    RETORT_TRY(bundle.date, formats::json_string(json, "date"));
    RETORT_TRY(bundle.public_key, formats::json_string(json, "public_key"));
    RETORT_TRY(bundle.model_sha256, formats::json_string(json, "model_sha256"));
    RETORT_TRY(const Json files, array_of(json, "files"));
    for (const Json& each : files) {
        RETORT_TRY(const std::string path, formats::json_string(each, "path"));
        if (!is_plain_path(path)) return fail(ErrorCode::format, "{}: path \"{}\"", manifest_name, path);
        ListedFile file;
        RETORT_TRY(const std::int64_t bytes, formats::json_integer(each, "bytes"));
        if (bytes < 0) return fail(ErrorCode::format, "{}: {} has {} bytes", manifest_name, path, bytes);
        file.bytes = static_cast<std::uint64_t>(bytes);
        RETORT_TRY(file.sha256, formats::json_string(each, "sha256"));
        if (!listing.files.emplace(path, std::move(file)).second) {
            return fail(ErrorCode::format, "{}: {} is listed twice", manifest_name, path);
        }
    }
    RETORT_TRY(const Json overrides, array_of(json, "overrides"));
    for (const Json& each : overrides) {
        Override one;
        RETORT_TRY(one.item, formats::json_string(each, "item"));
        RETORT_TRY(one.reason, formats::json_string(each, "reason"));
        bundle.overrides.push_back(std::move(one));
    }
    RETORT_TRY(const Json records, array_of(json, "records"));
    for (const Json& each : records) {
        SealedRecords one;
        RETORT_TRY(one.merkle_root, formats::json_string(each, "merkle_root"));
        RETORT_TRY(one.sha256, formats::json_string(each, "sha256"));
        RETORT_TRY(one.records, formats::json_integer(each, "records"));
        bundle.records.push_back(std::move(one));
    }
    return listing;
}

Status check_signature(const fs::path& folder, std::string_view manifest, const std::string& public_key) {
    const fs::path path = folder / signature_name;
    RETORT_TRY(const std::string text, base::read_file(path, 4096));
    std::array<std::uint8_t, crypto_sign_BYTES> signature{};
    std::array<std::uint8_t, crypto_sign_PUBLICKEYBYTES> key{};
    const bool one_line = !text.empty() && text.back() == '\n';
    if (!one_line) return fail(ErrorCode::format, "{}: not a signature", path.string());
    RETORT_CHECK(base::read_hex(std::string_view(text).substr(0, text.size() - 1), signature, path.string()));
    // One spelling only, so that no byte of it can be another.
    if (base::to_hex(signature) + "\n" != text) {
        return fail(ErrorCode::format, "{}: written in another way than it was made", path.string());
    }
    RETORT_CHECK(base::read_hex(public_key, key, "the public key"));
    if (crypto_sign_verify_detached(signature.data(), bytes_of(manifest), manifest.size(), key.data()) != 0) {
        return fail(ErrorCode::refused, "{}: the signature is not that of {}: one of the two was changed",
                    folder.string(), manifest_name);
    }
    return {};
}

// Everything in the folder, whatever it is.
Result<std::vector<std::string>> entries_of(const fs::path& folder) {
    std::vector<std::string> out;
    std::error_code error;
    fs::recursive_directory_iterator at(folder, error);
    for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
        const fs::file_status status = at->symlink_status(error);
        if (fs::is_directory(status)) continue;
        const std::string name = at->path().lexically_relative(folder).generic_string();
        if (!fs::is_regular_file(status)) {
            return fail(ErrorCode::refused, "{}: {} is no plain file", folder.string(), name);
        }
        out.push_back(name);
    }
    if (error) return fail(ErrorCode::io, "{}: {}", folder.string(), error.message());
    return out;
}

Status copy_in(const BundleFile& file, const fs::path& target) {
    RETORT_CHECK(base::make_folders(target.parent_path()));
    if (file.copy_of.empty()) return base::write_file_atomic(target, std::string_view(file.source));
    std::error_code error;
    fs::copy_file(file.copy_of, target, error);
    if (error)
        return fail(ErrorCode::io, "{} to {}: {}", file.copy_of.string(), target.string(), error.message());
    return {};
}

}  // namespace

SigningKey make_signing_key() {
    SigningKey key;
    randombytes_buf(key.seed.data(), key.seed.size());
    return key;
}

std::string signing_key_text(const SigningKey& key) {
    return base::to_hex(key.seed) + "\n";
}

Result<SigningKey> read_signing_key(const fs::path& file) {
    RETORT_TRY(std::string text, base::read_file(file, 4096));
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    SigningKey key;
    RETORT_CHECK(base::read_hex(text, key.seed, file.string()));
    return key;
}

std::string public_key_hex(const SigningKey& key) {
    return base::to_hex(key_pair(key).open);
}

Result<std::vector<std::string>> read_public_keys(const fs::path& file) {
    RETORT_TRY(const std::string text, base::read_file(file, std::size_t{1} << 20U));
    std::vector<std::string> keys;
    for (const std::string_view line : base::filled_lines(text)) {
        if (line.front() == '#') continue;
        std::array<std::uint8_t, crypto_sign_PUBLICKEYBYTES> key{};
        RETORT_CHECK(base::read_hex(line, key, file.string()));
        keys.push_back(base::to_hex(key));
    }
    if (keys.empty()) return fail(ErrorCode::invalid_argument, "{}: no key in it, one a line", file.string());
    return keys;
}

Status seal(const SealOptions& options, const SigningKey& key) {
    std::error_code error;
    if (fs::exists(options.output, error)) {
        return fail(ErrorCode::invalid_argument, "{}: there already; a sealed release is not changed",
                    options.output.string());
    }
    const fs::path draft = options.output.string() + ".partial";
    fs::remove_all(draft, error);
    RETORT_CHECK(base::make_folders(draft));
    Json files = Json::array();
    for (const BundleFile& file : options.files) {
        if (!is_plain_path(file.path) || file.path == manifest_name || file.path == signature_name) {
            return fail(ErrorCode::internal, "a bundle's file cannot be called {}", file.path);
        }
        RETORT_CHECK(copy_in(file, draft / file.path));
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(draft / file.path));
        files.push_back({{"path", file.path},
                         {"bytes", fs::file_size(draft / file.path, error)},
                         {"sha256", base::to_hex(hash)}});
    }
    Json overrides = Json::array();
    for (const Override& one : options.overrides)
        overrides.push_back({{"item", one.item}, {"reason", one.reason}});
    Json records = Json::array();
    for (const SealedRecords& one : options.records) {
        records.push_back(
            {{"merkle_root", one.merkle_root}, {"sha256", one.sha256}, {"records", one.records}});
    }
    const KeyPair pair = key_pair(key);
    const Json json = {{"format", format_name},  {"name", options.name},
                       {"date", options.date},   {"model_sha256", options.model_sha256},
                       {"overrides", overrides}, {"records", records},
                       {"files", files},         {"public_key", base::to_hex(pair.open)}};
    const std::string text = formats::write_json(json, 2) + "\n";
    std::array<std::uint8_t, crypto_sign_BYTES> signature{};
    crypto_sign_detached(signature.data(), nullptr, bytes_of(text), text.size(), pair.secret.data());
    RETORT_CHECK(base::write_file_atomic(draft / manifest_name, std::string_view(text)));
    RETORT_CHECK(
        base::write_file_atomic(draft / signature_name, std::string_view(base::to_hex(signature) + "\n")));
    fs::rename(draft, options.output, error);
    if (error) return fail(ErrorCode::io, "{}: {}", options.output.string(), error.message());
    return base::sync_directory(options.output.has_parent_path() ? options.output.parent_path()
                                                                 : fs::path("."));
}

Result<VerifiedBundle> verify(const fs::path& folder, const std::vector<std::string>& keys) {
    auto text = base::read_file(folder / manifest_name, most_manifest);
    if (!text)
        return fail(text.error().code, "{}: no sealed release: {}", folder.string(), text.error().message);
    RETORT_TRY(Listing listing, parse_listing(*text));
    VerifiedBundle& bundle = listing.bundle;
    if (!keys.empty() && std::find(keys.begin(), keys.end(), bundle.public_key) == keys.end()) {
        return fail(ErrorCode::refused, "{}: signed by {}, which is none of the {} trusted keys",
                    folder.string(), bundle.public_key, keys.size());
    }
    RETORT_CHECK(check_signature(folder, *text, bundle.public_key));
    RETORT_TRY(const std::vector<std::string> entries, entries_of(folder));
    std::size_t found = 0;
    for (const std::string& name : entries) {
        if (name == manifest_name || name == signature_name) continue;
        const auto listed = listing.files.find(name);
        if (listed == listing.files.end()) {
            return fail(ErrorCode::refused, "{}: {} is not part of the release", folder.string(), name);
        }
        ++found;
        RETORT_TRY(const base::Sha256 hash, base::sha256_file(folder / name));
        if (base::to_hex(hash) != listed->second.sha256) {
            return fail(ErrorCode::refused, "{}: {} was changed", folder.string(), name);
        }
        bundle.bytes += listed->second.bytes;
        if (name.starts_with("model/")) {
            bundle.model = name.ends_with(".gguf") ? folder / name : folder / "model";
        }
    }
    if (found != listing.files.size()) {
        return fail(ErrorCode::refused, "{}: {} of its {} files are missing", folder.string(),
                    listing.files.size() - found, listing.files.size());
    }
    bundle.folder = folder;
    bundle.files = static_cast<std::int64_t>(found);
    return std::move(bundle);
}

Status verify_records(const VerifiedBundle& bundle, const fs::path& records) {
    RETORT_TRY(const base::Sha256 hash, base::sha256_file(records));
    const std::string sha256 = base::to_hex(hash);
    const auto found = std::find_if(bundle.records.begin(), bundle.records.end(),
                                    [&](const SealedRecords& one) { return one.sha256 == sha256; });
    if (found != bundle.records.end()) return {};
    // Which line it was, if the manifest is still the old one.
    if (auto status = data::check_records(records); !status) return status;
    return fail(ErrorCode::refused, "{}: not the records that the release names ({} of them)",
                records.string(), bundle.records.size());
}

Status parse_manifest_text(std::string_view text) {
    RETORT_TRY(const Listing listing, parse_listing(text));
    return {};
}

}  // namespace retort::release
