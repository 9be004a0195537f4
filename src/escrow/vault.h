// The escrow on disk: an append-only journal of sealed records. Whoever serves holds the public key alone and
// can add but not read; the owner's secret key, kept elsewhere, opens it. Each record's hash stands beside it
// in the clear, and a Merkle root over a day's hashes is what gets published, so that nothing can be added,
// dropped or changed afterwards. The format is docs/formats/escrow.md. Knows no server.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/journal.h"
#include "base/result.h"
#include "escrow/records.h"

namespace retort::escrow {

struct PublicKey {
    std::array<std::uint8_t, 32> bytes{};
};
struct SecretKey {
    std::array<std::uint8_t, 32> bytes{};
};
struct KeyPair {
    PublicKey public_key;
    SecretKey secret_key;
};
KeyPair make_key_pair();
Result<PublicKey> public_key_from_hex(std::string_view hex);
Result<SecretKey> secret_key_from_hex(std::string_view hex);
PublicKey public_key_of(const SecretKey& secret);

// A journal's frame: what stands in the clear, and the sealed record.
struct Frame {
    std::uint64_t index = 0;  // of the coin stream, to go on from after a restart
    bool draws_coin = false;  // whether the record used that coin
    std::int64_t time_ms = 0;
    base::Sha256 leaf{};  // base::merkle_leaf of the record's text
    std::string sealed;   // libsodium's sealed box (X25519, XSalsa20-Poly1305)
};
std::string write_frame(const Frame& frame);
Result<Frame> parse_frame(std::string_view bytes);

// One line of roots.jsonl: leaves [first, first + count) of one day.
struct DayRoot {
    std::string date;  // "2026-11-25", UTC
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    std::string root;      // hex
    std::string previous;  // SHA-256 (hex) of the line before; empty for the first
    bool operator==(const DayRoot&) const = default;
};
std::string write_root(const DayRoot& root);
Result<std::vector<DayRoot>> parse_roots(std::string_view text, std::string_view name);
// Whether the leaves give these roots, all of them and in this chain.
Status check_roots(const std::vector<DayRoot>& roots, const std::vector<base::Sha256>& leaves);

class Vault {
  public:
    // For writing; one process at a time. Roots that a day's end or a kill left open are closed.
    static Result<std::unique_ptr<Vault>> open(const std::filesystem::path& folder, const PublicKey& key);
    ~Vault();  // close()
    Vault(const Vault&) = delete;
    Vault& operator=(const Vault&) = delete;

    // Safe from many threads.
    Status add(const Record& record);
    // The root of what has no root yet.
    Status close();
    // Of the coin stream: the first that no record has used.
    [[nodiscard]] std::uint64_t next_index() const { return next_index_; }

  private:
    Vault() = default;
    Status close_day();
    std::filesystem::path folder_;
    PublicKey key_;
    std::optional<base::FileLock> lock_;
    std::optional<base::Journal> journal_;
    std::mutex mutex_;
    std::vector<DayRoot> roots_;
    std::string last_line_;
    std::uint64_t next_index_ = 0;
    std::uint64_t leaves_ = 0;
    std::vector<base::Sha256> open_leaves_;
    std::string open_date_;
};

struct OpenedVault {
    std::vector<Record> records;       // in the order written
    std::vector<base::Sha256> leaves;  // of each
    std::vector<DayRoot> roots;
    std::uint64_t torn_bytes = 0;
};
// Opens every record with the secret key, and checks each against its leaf and the leaves against the roots.
Result<OpenedVault> read_vault(const std::filesystem::path& folder, const SecretKey& key);

}  // namespace retort::escrow
