#include "guard/follower.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "guard/follower_checkpoint.h"

namespace retort::guard {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view journal_magic = "RTJRNL01";
constexpr std::size_t most_checkpoint = std::size_t{16} << 30U;

// The bytes of a file from `from` on, behind a journal's beginning, so that they read as a journal.
Result<std::string> read_tail(const fs::path& path, std::uint64_t from, std::uint64_t to) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return fail(ErrorCode::io, "{}: cannot open: {}", path.string(), std::strerror(errno));
    std::string out;
    if (from > 0) out = journal_magic;
    const std::size_t begin = out.size();
    out.resize(begin + (to - from));
    in.seekg(static_cast<std::streamoff>(from));
    in.read(out.data() + begin, static_cast<std::streamsize>(to - from));
    out.resize(begin + static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
    return out;
}

}  // namespace

Result<std::unique_ptr<Follower>> Follower::open(FollowerOptions options, GuardOptions guard,
                                                 const OnVerdict& on_verdict) {
    std::unique_ptr<Follower> out(new Follower(std::move(options), std::move(guard)));
    RETORT_CHECK(base::make_folders(out->options_.state));
    const fs::path lock = out->options_.state / "lock";
    out->lock_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (out->lock_ < 0 || ::flock(out->lock_, LOCK_EX | LOCK_NB) != 0) {
        return fail(ErrorCode::invalid_argument, "{}: another `retort guard watch` uses it",
                    out->options_.state.string());
    }
    RETORT_CHECK(out->load());
    // What was read since the checkpoint is read again, in the order it was.
    const fs::path path = out->options_.state / fmt::format("read-{}.journal", out->number_);
    std::uint64_t events = 0;
    RETORT_TRY(base::Journal journal, base::Journal::open(path, [&](std::string_view frame) -> Status {
                   RETORT_TRY(const ReadPart part, read_part(frame));
                   RETORT_CHECK(out->read_range(part.file, part.from, part.to, on_verdict, events));
                   out->places_[part.file] = part.to;
                   return {};
               }));
    out->journal_ = std::make_unique<base::Journal>(std::move(journal));
    out->last_checkpoint_ = base::monotonic_seconds();
    return out;
}

Follower::~Follower() {
    if (lock_ >= 0) ::close(lock_);
}

Status Follower::load() {
    const fs::path path = options_.state / "checkpoint";
    if (!fs::exists(path)) return {};
    RETORT_TRY(const std::string bytes, base::read_file(path, most_checkpoint));
    auto read = read_checkpoint(bytes);
    if (!read) return fail_from(read.error(), path.string());
    number_ = read->number;
    places_ = std::move(read->places);
    allowed_ = std::move(read->allowed);
    if (const Status done = guard_.restore(read->state); !done) return fail_from(done.error(), path.string());
    return {};
}

Status Follower::checkpoint() {
    // Files that are gone by retention need no place.
    std::erase_if(places_, [&](const auto& each) { return !fs::exists(options_.events / each.first); });
    const std::string out = write_checkpoint({number_ + 1, places_, allowed_, guard_.save()});
    RETORT_CHECK(base::write_file_atomic(options_.state / "checkpoint", out));
    const fs::path old = options_.state / fmt::format("read-{}.journal", number_);
    ++number_;
    RETORT_TRY(base::Journal journal,
               base::Journal::open(options_.state / fmt::format("read-{}.journal", number_),
                                   [](std::string_view) { return Status(); }));
    journal_ = std::make_unique<base::Journal>(std::move(journal));
    std::error_code ignored;
    fs::remove(old, ignored);
    last_checkpoint_ = base::monotonic_seconds();
    return {};
}

Status Follower::set_allowed(const std::set<store::ShortHash>& allowed) {
    if (allowed == allowed_) return {};
    // The checkpoint before says from which event on it counts: reading again would else apply it too early.
    RETORT_CHECK(checkpoint());
    for (const store::ShortHash& id : allowed_)
        if (!allowed.contains(id)) guard_.set_allowed(id, false);
    for (const store::ShortHash& id : allowed)
        if (!allowed_.contains(id)) guard_.set_allowed(id, true);
    allowed_ = allowed;
    return checkpoint();
}

Status Follower::read_range(const std::string& file, std::uint64_t from, std::uint64_t to,
                            const OnVerdict& on_verdict, std::uint64_t& events) {
    RETORT_TRY(const std::string bytes, read_tail(options_.events / file, from, to));
    std::uint64_t valid = 0;
    Status failed;
    const auto parsed = base::parse_journal(
        std::as_bytes(std::span(bytes)),
        [&](std::string_view frame) -> Status {
            RETORT_TRY(const auto block, store::read_block(frame));
            for (const store::Event& event : block) {
                guard_.add(event, [&](const Verdict& verdict) {
                    if (failed) failed = on_verdict(verdict);
                });
                RETORT_CHECK(failed);
            }
            events += block.size();
            return {};
        },
        &valid);
    if (!parsed) return fail_from(parsed.error(), file);
    return {};
}

Result<std::uint64_t> Follower::poll(const OnVerdict& on_verdict) {
    std::uint64_t events = 0;
    RETORT_TRY(const auto files, store::event_files(options_.events));
    constexpr std::uint64_t most_at_once = std::uint64_t{8} << 20U;
    for (const fs::path& path : files) {
        const std::string name = path.filename().string();
        std::uint64_t& place = places_[name];
        for (;;) {
            std::error_code error;
            const std::uint64_t size = fs::file_size(path, error);
            if (error || size <= place) break;
            // Only whole frames: how far they go, before a word of them is used.
            std::uint64_t end = std::min<std::uint64_t>(size, place + most_at_once);
            std::uint64_t valid = 0;
            RETORT_TRY(std::string bytes, read_tail(path, place, end));
            const auto count = [](std::string_view) { return Status(); };
            auto parsed = base::parse_journal(std::as_bytes(std::span(bytes)), count, &valid);
            if (!parsed) return fail_from(parsed.error(), path.string());
            const std::uint64_t prefix = place > 0 ? journal_magic.size() : 0;
            if (valid <= prefix && end < size) {
                // One frame is larger than that.
                RETORT_TRY(bytes, read_tail(path, place, size));
                parsed = base::parse_journal(std::as_bytes(std::span(bytes)), count, &valid);
                if (!parsed) return fail_from(parsed.error(), path.string());
            }
            if (valid <= prefix) break;
            end = place + valid - prefix;
            RETORT_CHECK(journal_->append(write_part({name, place, end})));
            RETORT_CHECK(journal_->sync());
            RETORT_CHECK(read_range(name, place, end, on_verdict, events));
            place = end;
        }
    }
    if (base::monotonic_seconds() - last_checkpoint_ > options_.checkpoint_seconds && events > 0)
        RETORT_CHECK(checkpoint());
    return events;
}

}  // namespace retort::guard
