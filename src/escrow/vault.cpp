#include "escrow/vault.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "base/hex.h"

namespace retort::escrow {

using formats::Json;

namespace {

constexpr char version = 1;
constexpr std::size_t header_bytes = 1 + 1 + 8 + 8 + 32;
constexpr const char* journal_name = "escrow.journal";
constexpr const char* roots_name = "roots.jsonl";

void put_u64(std::string& out, std::uint64_t value) {
    for (unsigned shift = 0; shift < 64; shift += 8) out += static_cast<char>(value >> shift & 0xffU);
}

std::uint64_t get_u64(std::string_view bytes) {
    std::uint64_t value = 0;
    for (std::size_t i = 8; i-- > 0;) value = value << 8U | static_cast<std::uint8_t>(bytes[i]);
    return value;
}

std::string date_of(std::int64_t time_ms) {
    return base::utc_text(time_ms / 1000).substr(0, 10);
}

std::string seal(const PublicKey& key, std::string_view text) {
    std::string out(text.size() + crypto_box_SEALBYTES, '\0');
    crypto_box_seal(reinterpret_cast<unsigned char*>(out.data()),
                    reinterpret_cast<const unsigned char*>(text.data()), text.size(), key.bytes.data());
    return out;
}

Result<std::string> unseal(const KeyPair& keys, std::string_view sealed) {
    if (sealed.size() < crypto_box_SEALBYTES) return fail(ErrorCode::format, "a sealed record is too short");
    std::string out(sealed.size() - crypto_box_SEALBYTES, '\0');
    if (crypto_box_seal_open(reinterpret_cast<unsigned char*>(out.data()),
                             reinterpret_cast<const unsigned char*>(sealed.data()), sealed.size(),
                             keys.public_key.bytes.data(), keys.secret_key.bytes.data()) != 0) {
        return fail(ErrorCode::format,
                    "a sealed record does not open with this key: another escrow's key, or damage");
    }
    return out;
}

Result<std::string> read_if_there(const std::filesystem::path& path) {
    if (!std::filesystem::exists(path)) return std::string();
    return base::read_file(path);
}

}  // namespace

KeyPair make_key_pair() {
    KeyPair keys;
    crypto_box_keypair(keys.public_key.bytes.data(), keys.secret_key.bytes.data());
    return keys;
}

Result<PublicKey> public_key_from_hex(std::string_view hex) {
    PublicKey key;
    RETORT_CHECK(base::read_hex(hex, key.bytes, "escrow's public key"));
    return key;
}

Result<SecretKey> secret_key_from_hex(std::string_view hex) {
    SecretKey key;
    RETORT_CHECK(base::read_hex(hex, key.bytes, "escrow's secret key"));
    return key;
}

PublicKey public_key_of(const SecretKey& secret) {
    PublicKey key;
    crypto_scalarmult_base(key.bytes.data(), secret.bytes.data());
    return key;
}

std::string write_frame(const Frame& frame) {
    std::string out(1, version);
    out += static_cast<char>(frame.draws_coin ? 1 : 0);
    put_u64(out, frame.index);
    put_u64(out, static_cast<std::uint64_t>(frame.time_ms));
    out.append(reinterpret_cast<const char*>(frame.leaf.data()), frame.leaf.size());
    return out + frame.sealed;
}

Result<Frame> parse_frame(std::string_view bytes) {
    if (bytes.size() < header_bytes + crypto_box_SEALBYTES) {
        return fail(ErrorCode::format, "an escrow frame of {} bytes is too short", bytes.size());
    }
    if (bytes[0] != version) {
        return fail(ErrorCode::unsupported, "an escrow frame of version {}: this program reads 1",
                    static_cast<int>(static_cast<std::uint8_t>(bytes[0])));
    }
    if (bytes[1] != 0 && bytes[1] != 1)
        return fail(ErrorCode::format, "an escrow frame's flag is neither 0 nor 1");
    Frame frame;
    frame.draws_coin = bytes[1] == 1;
    frame.index = get_u64(bytes.substr(2));
    frame.time_ms = static_cast<std::int64_t>(get_u64(bytes.substr(10)));
    constexpr std::int64_t latest = 253'402'300'799'999;  // the end of the year 9999
    if (frame.time_ms < 0 || frame.time_ms > latest)
        return fail(ErrorCode::format, "an escrow frame's time is no time");
    std::memcpy(frame.leaf.data(), bytes.data() + 18, frame.leaf.size());
    frame.sealed = bytes.substr(header_bytes);
    return frame;
}

std::string write_root(const DayRoot& root) {
    return formats::write_json(Json{{"date", root.date},
                                    {"first", root.first},
                                    {"count", root.count},
                                    {"root", root.root},
                                    {"previous", root.previous}});
}

Result<std::vector<DayRoot>> parse_roots(std::string_view text, std::string_view name) {
    std::vector<DayRoot> roots;
    std::string previous;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (line.empty()) continue;
        RETORT_TRY(const Json json, formats::parse_json(line, name));
        DayRoot root;
        RETORT_TRY(root.date, formats::json_string(json, "date"));
        RETORT_TRY(const std::int64_t first, formats::json_integer(json, "first"));
        RETORT_TRY(const std::int64_t count, formats::json_integer(json, "count"));
        RETORT_TRY(root.root, formats::json_string(json, "root"));
        RETORT_TRY(root.previous, formats::json_string(json, "previous", ""));
        if (first < 0 || count < 1) return fail(ErrorCode::format, "{}: a root over no leaves", name);
        if (root.previous != previous) {
            return fail(ErrorCode::format, "{}: the root of {} does not name the hash of the line before",
                        name, root.date);
        }
        root.first = static_cast<std::uint64_t>(first);
        root.count = static_cast<std::uint64_t>(count);
        roots.push_back(std::move(root));
        previous = base::sha256_hex(line);
    }
    return roots;
}

Status check_roots(const std::vector<DayRoot>& roots, const std::vector<base::Sha256>& leaves) {
    std::uint64_t next = 0;
    for (const DayRoot& root : roots) {
        if (root.first != next || root.count > leaves.size() - next) {
            return fail(ErrorCode::format, "the root of {} covers leaves {} to {}, but {} is next of {}",
                        root.date, root.first, root.first + root.count, next, leaves.size());
        }
        const auto covered = std::span(leaves).subspan(next, root.count);
        if (base::to_hex(base::merkle_root(covered)) != root.root) {
            return fail(ErrorCode::format, "the records of {} are not those whose root was published",
                        root.date);
        }
        next += root.count;
    }
    return {};
}

Result<std::unique_ptr<Vault>> Vault::open(const std::filesystem::path& folder, const PublicKey& key) {
    RETORT_CHECK(base::make_folders(folder));
    std::unique_ptr<Vault> vault(new Vault);
    vault->folder_ = folder;
    vault->key_ = key;
    RETORT_TRY(base::FileLock lock, base::FileLock::acquire(folder / "escrow.lock"));
    vault->lock_.emplace(std::move(lock));
    RETORT_TRY(const std::string text, read_if_there(folder / roots_name));
    RETORT_TRY(vault->roots_, parse_roots(text, (folder / roots_name).string()));
    if (!vault->roots_.empty()) vault->last_line_ = write_root(vault->roots_.back());
    const std::uint64_t covered =
        vault->roots_.empty() ? 0 : vault->roots_.back().first + vault->roots_.back().count;
    Vault& self = *vault;
    RETORT_TRY(base::Journal journal,
               base::Journal::open(folder / journal_name, [&self, covered](std::string_view bytes) -> Status {
                   RETORT_TRY(const Frame frame, parse_frame(bytes));
                   if (frame.draws_coin) self.next_index_ = std::max(self.next_index_, frame.index + 1);
                   if (self.leaves_++ >= covered) {
                       const std::string date = date_of(frame.time_ms);
                       if (date != self.open_date_) RETORT_CHECK(self.close_day());
                       self.open_date_ = date;
                       self.open_leaves_.push_back(frame.leaf);
                   }
                   return {};
               }));
    vault->journal_.emplace(std::move(journal));
    if (vault->open_date_ != date_of(base::unix_milliseconds())) RETORT_CHECK(vault->close());
    return vault;
}

Vault::~Vault() {
    if (journal_) (void)close();
}

Status Vault::close_day() {
    if (open_leaves_.empty()) return {};
    DayRoot root{open_date_, leaves_, open_leaves_.size(), base::to_hex(base::merkle_root(open_leaves_)),
                 last_line_.empty() ? "" : base::sha256_hex(last_line_)};
    root.first = (roots_.empty() ? 0 : roots_.back().first + roots_.back().count);
    roots_.push_back(root);
    last_line_ = write_root(root);
    std::string text;
    for (const DayRoot& each : roots_) text += write_root(each) + '\n';
    open_leaves_.clear();
    return base::write_file_atomic(folder_ / roots_name, text);
}

Status Vault::close() {
    const std::lock_guard lock(mutex_);
    if (journal_) RETORT_CHECK(journal_->sync());
    return close_day();
}

Status Vault::add(const Record& record) {
    const std::string text = write_record(record);
    Frame frame;
    frame.index = record.index;
    frame.draws_coin = record.kind == RecordKind::twin || record.kind == RecordKind::identical ||
                       record.kind == RecordKind::broken;
    frame.leaf = base::merkle_leaf(text);
    frame.sealed = seal(key_, text);
    const std::lock_guard lock(mutex_);
    // The journal's order is the order of its times, or a day's leaves would not be neighbours.
    frame.time_ms = base::unix_milliseconds();
    const std::string date = date_of(frame.time_ms);
    if (date != open_date_) RETORT_CHECK(close_day());
    RETORT_CHECK(journal_->append(write_frame(frame)));
    open_date_ = date;
    open_leaves_.push_back(frame.leaf);
    ++leaves_;
    if (frame.draws_coin) next_index_ = std::max(next_index_, frame.index + 1);
    return {};
}

Result<OpenedVault> read_vault(const std::filesystem::path& folder, const SecretKey& key) {
    const KeyPair keys{public_key_of(key), key};
    OpenedVault out;
    RETORT_TRY(const base::JournalRecovery recovery,
               base::read_journal(folder / journal_name, [&](std::string_view bytes) -> Status {
                   RETORT_TRY(const Frame frame, parse_frame(bytes));
                   RETORT_TRY(const std::string text, unseal(keys, frame.sealed));
                   if (base::merkle_leaf(text) != frame.leaf) {
                       return fail(ErrorCode::format, "{}: record {} is not what its hash says",
                                   (folder / journal_name).string(), out.records.size());
                   }
                   RETORT_TRY(Record record, parse_record(text));
                   out.records.push_back(std::move(record));
                   out.leaves.push_back(frame.leaf);
                   return {};
               }));
    out.torn_bytes = recovery.torn_bytes;
    RETORT_TRY(const std::string roots, read_if_there(folder / roots_name));
    RETORT_TRY(out.roots, parse_roots(roots, (folder / roots_name).string()));
    RETORT_CHECK(check_roots(out.roots, out.leaves));
    return out;
}

}  // namespace retort::escrow
