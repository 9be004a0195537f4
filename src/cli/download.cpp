#include "cli/download.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "http/client.h"
#include "http/url.h"

namespace retort::cli {

namespace fs = std::filesystem;

namespace {

constexpr int max_redirects = 8;
constexpr int max_attempts = 5;

http::Client& client() {
    static http::Client shared;
    return shared;
}

bool is_redirect(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

std::string lower_hex(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'F' ? c + 32 : c);
    return out;
}

bool is_sha256(std::string_view text) {
    return text.size() == 64 && text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

struct Chain {
    http::ClientResponse response;
    std::string linked_sha256;  // that any response of the chain states
};

// Follows redirects here rather than in the client: the first answer carries the file's hash, and credentials
// must not reach another origin. `headers` are for the first origin, `range` for all.
Result<Chain> get(const std::string& url, const http::Headers& headers, const http::Headers& range,
                  const http::StreamHandlers& handlers, std::uint64_t max_body_bytes,
                  bool outside_only = false) {
    Chain chain;
    RETORT_TRY(http::Url at, http::parse_url(url));
    const std::string origin = at.origin();
    for (int hop = 0; hop <= max_redirects; ++hop) {
        http::ClientRequest request;
        request.url = at.text();
        request.max_redirects = 0;
        request.max_body_bytes = max_body_bytes;
        request.cancelled = base::interrupted;
        request.outside_only = outside_only;
        if (at.origin() == origin) request.headers = headers;
        for (const auto& [name, value] : range) request.headers.add(name, value);
        RETORT_TRY(chain.response, client().send(request, handlers));
        std::string etag(chain.response.headers.get("x-linked-etag"));
        std::erase(etag, '"');
        if (is_sha256(etag)) chain.linked_sha256 = lower_hex(etag);
        if (!is_redirect(chain.response.status)) return chain;
        RETORT_TRY(http::Url next, http::resolve_url(at, chain.response.headers.get("location")));
        if (at.tls && !next.tls) {
            return fail(ErrorCode::network, "{} redirects to {}, from https to http: not followed",
                        at.origin(), next.origin());
        }
        outside_only = outside_only || !chain.response.inside;
        at = std::move(next);
    }
    return fail(ErrorCode::network, "{}: more than {} redirects", url, max_redirects);
}

tl::unexpected<base::Error> status_error(const std::string& url, const http::ClientResponse& response) {
    std::string mend;
    switch (response.status) {
        case 401:
        case 403:
            mend = "; it needs a permission: accept its terms where it is published, and set HF_TOKEN";
            break;
        case 404:
            mend = "; check the name";
            break;
        case 429:
            mend = "; too many requests: wait, and run the same command again";
            break;
        default:
            break;
    }
    std::string words = response.body.substr(0, 200);
    words = words.substr(0, words.find('\n'));
    return fail(response.status == 404 ? ErrorCode::not_found : ErrorCode::network, "{}: status {}{}{}{}",
                url, response.status, mend, words.empty() ? "" : ": ", words);
}

bool worth_another_try(const base::Error& error, int status) {
    if (status != 0) return status == 408 || status == 429 || status >= 500;
    return error.code == ErrorCode::network;
}

void wait_before(int attempt) {
    const double until =
        base::monotonic_seconds() + 0.25 * static_cast<double>(1U << static_cast<unsigned>(attempt));
    while (base::monotonic_seconds() < until && !base::interrupted()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

// PATH.partial, and PATH.partial.etag which names the version of the file that the bytes are of.
class PartialFile {
  public:
    static Result<PartialFile> open(const fs::path& path) {
        PartialFile file;
        file.path_ = path.string() + ".partial";
        file.etag_path_ = path.string() + ".partial.etag";
        if (path.has_parent_path()) RETORT_CHECK(base::make_folders(path.parent_path()));
        file.descriptor_ = ::open(file.path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (file.descriptor_ < 0) return file.os_error("open");
        struct stat info {};
        if (::fstat(file.descriptor_, &info) != 0) return file.os_error("stat");
        file.size_ = static_cast<std::uint64_t>(info.st_size);
        if (file.size_ > 0) {
            if (auto etag = base::read_file(file.etag_path_, 4096)) file.etag_ = *etag;
        }
        return file;
    }
    PartialFile(PartialFile&& other) noexcept { *this = std::move(other); }
    PartialFile& operator=(PartialFile&& other) noexcept {
        std::swap(path_, other.path_);
        std::swap(etag_path_, other.etag_path_);
        std::swap(etag_, other.etag_);
        std::swap(descriptor_, other.descriptor_);
        std::swap(size_, other.size_);
        return *this;
    }
    PartialFile(const PartialFile&) = delete;
    PartialFile& operator=(const PartialFile&) = delete;
    ~PartialFile() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }

    [[nodiscard]] std::uint64_t size() const { return size_; }
    [[nodiscard]] const std::string& etag() const { return etag_; }
    [[nodiscard]] const fs::path& path() const { return path_; }

    // Empties it, for a version of the file called `etag` (empty: the server names none, so what a kill
    // leaves can be continued only if its final hash is known).
    Status start_over(std::string_view etag) {
        if (::ftruncate(descriptor_, 0) != 0) return os_error("truncate");
        size_ = 0;
        etag_ = etag;
        std::error_code code;
        fs::remove(etag_path_, code);
        if (!etag.empty()) return base::write_file_atomic(etag_path_, etag);
        return {};
    }

    Status append(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t wrote =
                ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
            if (wrote < 0) {
                if (errno == EINTR) continue;
                return os_error("write");
            }
            size_ += static_cast<std::uint64_t>(wrote);
            bytes.remove_prefix(static_cast<std::size_t>(wrote));
        }
        return {};
    }

    Status finish(const fs::path& target) {
        if (::fsync(descriptor_) != 0) return os_error("sync");
        if (::rename(path_.c_str(), target.c_str()) != 0) return os_error("rename into place");
        std::error_code code;
        fs::remove(etag_path_, code);
        return base::sync_directory(target.has_parent_path() ? target.parent_path() : fs::path("."));
    }

    void remove() {
        std::error_code code;
        fs::remove(path_, code);
        fs::remove(etag_path_, code);
    }

  private:
    PartialFile() = default;
    [[nodiscard]] tl::unexpected<base::Error> os_error(std::string_view what) const {
        if (errno == ENOSPC) {
            return fail(ErrorCode::io, "{}: the disk is full; free some space and run the same command again",
                        path_.string());
        }
        return fail(ErrorCode::io, "{}: cannot {}: {}", path_.string(), what, std::strerror(errno));
    }

    fs::path path_;
    fs::path etag_path_;
    std::string etag_;
    int descriptor_ = -1;
    std::uint64_t size_ = 0;
};

struct ContentRange {
    std::uint64_t first = 0;
    std::uint64_t total = 0;  // 0: not said
};

// "bytes 100-199/200", "bytes 100-199/*"
std::optional<ContentRange> parse_content_range(std::string_view text) {
    if (text.substr(0, 6) != "bytes ") return std::nullopt;
    text.remove_prefix(6);
    ContentRange range;
    const char* end = text.data() + text.size();
    const auto first = std::from_chars(text.data(), end, range.first);
    if (first.ec != std::errc() || first.ptr == end || *first.ptr != '-') return std::nullopt;
    const std::size_t slash = text.find('/');
    if (slash == std::string_view::npos) return std::nullopt;
    if (text.substr(slash + 1) == "*") return range;
    const auto total = std::from_chars(text.data() + slash + 1, end, range.total);
    if (total.ec != std::errc() || total.ptr != end) return std::nullopt;
    return range;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
    std::uint64_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || parsed.ec != std::errc() || parsed.ptr != text.data() + text.size())
        return std::nullopt;
    return value;
}

// A strong validator: a weak one does not promise the same bytes.
std::string strong_etag(const http::Headers& headers) {
    const std::string_view etag = headers.get("etag");
    return etag.substr(0, 2) == "W/" ? std::string() : std::string(etag);
}

class Transfer {
  public:
    Transfer(const DownloadRequest& request, PartialFile& partial) : request_(request), partial_(partial) {}

    // One request. `status` is 0 when no answer came.
    Status attempt(int& status) {
        status = 0;
        http::Headers range;
        const bool resumable = !partial_.etag().empty() || !request_.sha256.empty();
        if (partial_.size() > 0 && !resumable) RETORT_CHECK(partial_.start_over({}));
        if (partial_.size() > 0) {
            range.add("Range", fmt::format("bytes={}-", partial_.size()));
            if (!partial_.etag().empty()) range.add("If-Range", partial_.etag());
        }
        range.add("Accept-Encoding", "identity");
        http::StreamHandlers handlers;
        handlers.on_header = [this](const http::ClientResponse& response) { return on_header(response); };
        handlers.on_body = [this](std::string_view bytes) -> Status {
            if (total_ > 0 && partial_.size() + bytes.size() > total_) {
                return fail(ErrorCode::format, "{}: sends more than the {} bytes it announced", request_.url,
                            total_);
            }
            RETORT_CHECK(partial_.append(bytes));
            if (progress_) progress_->update(partial_.size() / 1'000'000);
            return {};
        };
        RETORT_TRY(const Chain chain, get(request_.url, request_.headers, range, handlers,
                                          std::uint64_t{1} << 20U, request_.outside_only));
        if (!chain.linked_sha256.empty()) linked_sha256_ = chain.linked_sha256;
        status = chain.response.status;
        if (status == 416) {
            // Asked for bytes past the end: all of it is here, or it is another file's.
            const std::uint64_t total = total_after_416(chain.response.headers.get("content-range"));
            if (total == partial_.size()) return {};
            RETORT_CHECK(partial_.start_over({}));
            status = 503;  // try again
            return fail(ErrorCode::network, "{}: what was fetched before is of another file", request_.url);
        }
        if (status != 200 && status != 206) return status_error(request_.url, chain.response);
        if (total_ > 0 && partial_.size() != total_) {
            status = 0;
            return fail(ErrorCode::network, "{}: the connection ended after {} of {} bytes", request_.url,
                        partial_.size(), total_);
        }
        return {};
    }

    [[nodiscard]] const std::string& linked_sha256() const { return linked_sha256_; }
    void finish_progress() {
        if (progress_) progress_->finish();
    }

  private:
    static std::uint64_t total_after_416(std::string_view text) {
        constexpr std::string_view prefix = "bytes */";
        if (text.substr(0, prefix.size()) != prefix) return 0;
        return parse_number(text.substr(prefix.size())).value_or(0);
    }

    Status on_header(const http::ClientResponse& response) {
        if (response.status == 206) {
            const auto range = parse_content_range(response.headers.get("content-range"));
            if (!range || range->first != partial_.size()) {
                return fail(ErrorCode::format, "{}: answered bytes from {} on with Content-Range '{}'",
                            request_.url, partial_.size(), response.headers.get("content-range"));
            }
            total_ = range->total;
            if (!request_.quiet) {
                spdlog::info("{}: continues after {}", request_.path.filename().string(),
                             base::bytes_text(static_cast<double>(partial_.size())));
            }
        } else if (response.status == 200) {
            RETORT_CHECK(partial_.start_over(strong_etag(response.headers)));
            total_ = parse_number(response.headers.get("content-length")).value_or(0);
        } else {
            return {};
        }
        if (total_ == 0) total_ = request_.bytes;
        if (request_.bytes > 0 && total_ != request_.bytes) {
            return fail(ErrorCode::format, "{}: is {} bytes, the listing says {}", request_.url, total_,
                        request_.bytes);
        }
        if (!progress_) {
            progress_.emplace(request_.path.filename().string(), total_ / 1'000'000, "MB", request_.quiet);
            progress_->set_resumed(partial_.size() / 1'000'000);
        }
        return {};
    }

    const DownloadRequest& request_;
    PartialFile& partial_;
    std::uint64_t total_ = 0;
    std::string linked_sha256_;
    std::optional<base::Progress> progress_;
};

}  // namespace

Result<FetchedText> fetch_text(const std::string& url, const http::Headers& headers, std::size_t max_bytes) {
    for (int attempt = 0;; ++attempt) {
        auto chain = get(url, headers, {}, {}, max_bytes);
        const int status = chain ? chain->response.status : 0;
        if (status == 200) {
            return FetchedText{std::move(chain->response.body),
                               std::string(chain->response.headers.get("content-type")), chain->response.url,
                               chain->response.inside};
        }
        auto error =
            chain ? status_error(url, chain->response) : tl::make_unexpected(std::move(chain.error()));
        if (attempt + 1 >= max_attempts || !worth_another_try(error.value(), status) || base::interrupted()) {
            return error;
        }
        wait_before(attempt);
    }
}

Result<Downloaded> download(const DownloadRequest& request) {
    DownloadRequest wanted = request;
    wanted.sha256 = lower_hex(request.sha256);
    if (!wanted.sha256.empty() && !is_sha256(wanted.sha256)) {
        return fail(ErrorCode::invalid_argument, "'{}' is not a SHA-256 (64 hexadecimal digits)",
                    request.sha256);
    }
    RETORT_TRY(PartialFile partial, PartialFile::open(wanted.path));
    Transfer transfer(wanted, partial);
    // An attempt that brought bytes does not count: a slow, shaky line gets there.
    for (int attempt = 0;; ++attempt) {
        const std::uint64_t before = partial.size();
        int status = 0;
        Status done = transfer.attempt(status);
        if (done) break;
        if (base::interrupted()) {
            return fail(ErrorCode::cancelled, "interrupted; {} of {} are kept, the same command continues",
                        base::bytes_text(static_cast<double>(partial.size())),
                        wanted.path.filename().string());
        }
        if (partial.size() > before) attempt = 0;
        if (attempt + 1 >= max_attempts || !worth_another_try(done.error(), status)) {
            if (partial.size() == 0) {
                partial.remove();
                return tl::make_unexpected(std::move(done.error()));
            }
            done.error().message += fmt::format("; {} are kept, the same command continues",
                                                base::bytes_text(static_cast<double>(partial.size())));
            return tl::make_unexpected(std::move(done.error()));
        }
        spdlog::warn("{}; trying again", done.error().message);
        wait_before(attempt);
    }

    Downloaded downloaded;
    downloaded.bytes = partial.size();
    RETORT_TRY(const base::Sha256 hash, base::sha256_file(partial.path()));
    downloaded.sha256 = base::to_hex(hash);
    const std::string& expected = wanted.sha256.empty() ? transfer.linked_sha256() : wanted.sha256;
    if (!expected.empty() && downloaded.sha256 != expected) {
        partial.remove();
        return fail(ErrorCode::format, "{}: its sha256 is {}, expected {}; the file was removed", request.url,
                    downloaded.sha256, expected);
    }
    if (request.bytes > 0 && downloaded.bytes != request.bytes) {
        partial.remove();
        return fail(ErrorCode::format, "{}: is {} bytes, expected {}; the file was removed", request.url,
                    downloaded.bytes, request.bytes);
    }
    downloaded.verified = expected.empty() ? "" : wanted.sha256.empty() ? "x-linked-etag" : "sha256";
    RETORT_CHECK(partial.finish(wanted.path));
    transfer.finish_progress();
    return downloaded;
}

std::string percent_decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        unsigned value = 0;
        if (text[i] == '%' && i + 2 < text.size() &&
            std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr == text.data() + i + 3) {
            out += static_cast<char>(value);
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

std::string percent_encoded_path(std::string_view text) {
    std::string out;
    for (const char c : text) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                           std::string_view("-._~/").find(c) != std::string_view::npos;
        out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
}

}  // namespace retort::cli
