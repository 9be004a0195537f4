// The state of a Guard as bytes (docs/formats/guard_state.md).
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/hash.h"
#include "guard/guard.h"

namespace retort::guard {

namespace {

constexpr std::string_view magic = "RGUARD3\n";
constexpr std::uint64_t most_bytes = std::uint64_t{16} << 30U;

class Writer {
  public:
    template <typename T>
    void plain(const T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        out_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    template <typename T>
    void list(const std::vector<T>& values) {
        static_assert(std::is_trivially_copyable_v<T>);
        plain(static_cast<std::uint64_t>(values.size()));
        out_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    }
    void text(std::string_view value) {
        plain(static_cast<std::uint64_t>(value.size()));
        out_ += value;
    }
    std::string& bytes() { return out_; }

  private:
    std::string out_;
};

class Reader {
  public:
    explicit Reader(std::string_view bytes) : rest_(bytes) {}
    template <typename T>
    T plain() {
        T value{};
        const std::string_view bytes = take(sizeof value);
        if (!failed_) std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }
    template <typename T>
    std::vector<T> list() {
        const auto count = plain<std::uint64_t>();
        if (count > rest_.size() / sizeof(T)) {
            failed_ = true;
            return {};
        }
        const std::string_view bytes = take(count * sizeof(T));
        std::vector<T> out(count);
        if (count > 0) std::memcpy(static_cast<void*>(out.data()), bytes.data(), bytes.size());
        return out;
    }
    std::string text() { return std::string(take(plain<std::uint64_t>())); }
    [[nodiscard]] bool failed() const { return failed_; }
    [[nodiscard]] bool at_end() const { return rest_.empty(); }

  private:
    std::string_view take(std::uint64_t count) {
        if (count > rest_.size()) {
            failed_ = true;
            rest_ = {};
            return {};
        }
        const std::string_view out = rest_.substr(0, count);
        rest_.remove_prefix(count);
        return out;
    }
    std::string_view rest_;
    bool failed_ = false;
};

}  // namespace

std::string Guard::save() const {
    Writer out;
    out.plain(window_);
    out.plain(tick_);
    out.plain(time_ms_);
    out.plain(events_);
    out.plain(sequence_);
    out.plain(windows_);
    out.plain(static_cast<std::uint64_t>(plans_.size()));
    for (const std::string& plan : plans_) out.text(plan);
    std::vector<store::ShortHash> allowed(allowed_.begin(), allowed_.end());
    std::sort(allowed.begin(), allowed.end());
    out.list(allowed);
    for (const NullDistribution& null : nulls_) {
        out.plain(static_cast<std::uint64_t>(null.windows().size()));
        for (const auto& window : null.windows()) out.list(window);
    }
    out.list(past_.counts());
    out.list(accounts_);
    const std::string& plain = out.bytes();
    const std::uint64_t size = plain.size();
    std::string packed(magic.size() + 8 + 8 + ZSTD_compressBound(size), '\0');
    std::memcpy(packed.data(), magic.data(), magic.size());
    std::memcpy(packed.data() + magic.size(), &size, sizeof size);
    const std::uint64_t sum = base::xxh3_64(plain);
    std::memcpy(packed.data() + magic.size() + 8, &sum, sizeof sum);
    const std::size_t at = magic.size() + 16;
    packed.resize(at + ZSTD_compress(packed.data() + at, packed.size() - at, plain.data(), size, 1));
    return packed;
}

Status Guard::restore(std::string_view bytes) {
    const std::size_t at = magic.size() + 16;
    if (bytes.size() < at || !bytes.starts_with(magic)) return fail(ErrorCode::format, "not a guard's state");
    std::uint64_t size = 0;
    std::uint64_t sum = 0;
    std::memcpy(&size, bytes.data() + magic.size(), sizeof size);
    std::memcpy(&sum, bytes.data() + magic.size() + 8, sizeof sum);
    // zstd's own header must agree before so much memory is taken.
    if (size > most_bytes || ZSTD_getFrameContentSize(bytes.data() + at, bytes.size() - at) != size) {
        return fail(ErrorCode::format, "a guard's state whose size does not agree with its header");
    }
    std::string plain(size, '\0');
    if (ZSTD_decompress(plain.data(), size, bytes.data() + at, bytes.size() - at) != size ||
        base::xxh3_64(plain) != sum) {
        return fail(ErrorCode::format, "a damaged guard's state");
    }
    Reader in(plain);
    Guard made(options_);
    made.window_ = in.plain<std::int64_t>();
    made.tick_ = in.plain<std::int64_t>();
    made.time_ms_ = in.plain<std::int64_t>();
    made.events_ = in.plain<std::uint64_t>();
    made.sequence_ = in.plain<std::uint64_t>();
    made.windows_ = in.plain<std::uint64_t>();
    const auto plans = in.plain<std::uint64_t>();
    for (std::uint64_t i = 0; i < plans && !in.failed() && i <= UINT16_MAX; ++i) {
        made.plan_numbers_.try_emplace(made.plans_.emplace_back(in.text()), static_cast<std::uint16_t>(i));
    }
    for (const store::ShortHash& id : in.list<store::ShortHash>()) made.allowed_.insert(id);
    for (NullDistribution& null : made.nulls_) {
        const auto count = in.plain<std::uint64_t>();
        std::vector<std::vector<float>> windows;
        for (std::uint64_t i = 0; i < count && !in.failed(); ++i) windows.push_back(in.list<float>());
        null.restore(std::move(windows));
    }
    made.past_.counts() = in.list<std::uint16_t>();
    made.accounts_ = in.list<AccountState>();
    const std::size_t slots = made.past_.counts().size();
    if (in.failed() || !in.at_end() || slots == 0 || (slots & (slots - 1)) != 0) {
        return fail(ErrorCode::format, "a guard's state that does not fill its bytes");
    }
    for (std::uint32_t i = 0; i < made.accounts_.size(); ++i) {
        if (made.accounts_[i].plan >= made.plans_.size() ||
            !made.numbers_.try_emplace(made.accounts_[i].id, i).second) {
            return fail(ErrorCode::format, "a guard's state with an account twice, or on no plan");
        }
    }
    made.counts_.rebuild(made.accounts_);
    for (std::uint32_t i = 0; i < made.accounts_.size(); ++i)
        if (made.accounts_[i].in_window != 0) made.note_change(i);
    *this = std::move(made);
    return {};
}

}  // namespace retort::guard
