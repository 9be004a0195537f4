#include "http/client.h"

#include <algorithm>
#include <array>
#include <boost/asio/ssl.hpp>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "http/address.h"
#include "http/beast.h"
#include "http/channel.h"
#include "http/proxy.h"
#include "http/url.h"

namespace retort::http {

namespace beast = boost::beast;
namespace asio = boost::asio;

namespace {

constexpr std::size_t max_header_bytes = 64UL * 1024;
constexpr std::size_t read_chunk = 64UL * 1024;
constexpr std::uint64_t max_redirect_body = 64UL * 1024;

using Parser = beast::http::response_parser<beast::http::buffer_body>;

struct Connection {
    Channel channel;
    beast::flat_buffer buffer;
    double idle_since = 0;
    bool reused = false;
};

bool is_redirect(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool is_literal_inside(const std::string& host) {
    boost::system::error_code is_name;
    const auto address = asio::ip::make_address(host, is_name);
    return !is_name && is_inside(address);
}

Status check_field(std::string_view name, std::string_view value) {
    const auto is_token = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
    };
    if (name.empty() || !std::all_of(name.begin(), name.end(), is_token)) {
        return fail(ErrorCode::invalid_argument, "header name \"{}\" has a character that none may have",
                    name);
    }
    for (const char c : value) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
            return fail(ErrorCode::invalid_argument, "the value of header {} has a control character", name);
        }
    }
    return {};
}

base::Error at_host(base::Error error, const Url& url, const std::optional<Url>& proxy) {
    if (proxy) {
        error.message =
            fmt::format("{} (through the proxy {}): {}", url.origin(), proxy->host_port(), error.message);
    } else {
        error.message = fmt::format("{}: {}", url.origin(), error.message);
    }
    return error;
}

base::Error failed_read(const Connection& connection, const boost::system::error_code& error) {
    if (error == beast::http::error::end_of_stream || error == beast::http::error::partial_message) {
        return connection.channel.describe(asio::error::eof);
    }
    if (error == beast::http::error::header_limit) {
        return {ErrorCode::format,
                fmt::format("the header of the answer is longer than {} bytes", max_header_bytes)};
    }
    if (error.category() == make_error_code(beast::http::error::bad_version).category()) {
        return {ErrorCode::format, fmt::format("the answer is not HTTP/1.1 ({})", error.message())};
    }
    return connection.channel.describe(error);
}

// One request over one connection, up to and including the response's body.
struct Exchange {
    const ClientRequest& request;
    const StreamHandlers& handlers;
    double start = 0;
    bool follows = false;   // a redirect will be followed, so its body is not the caller's
    bool answered = false;  // a byte of the answer has come

    // Whether the connection may be used again.
    Result<bool> run(Connection& connection, std::string_view message, ClientResponse& response);

  private:
    Status read_header(Connection& connection, std::optional<Parser>& parser);
    Status read_body(Connection& connection, Parser& parser, ClientResponse& response) const;
};

Result<bool> Exchange::run(Connection& connection, std::string_view message, ClientResponse& response) {
    boost::system::error_code error;
    connection.channel.write_all(message, error);
    std::optional<base::Error> write_error;
    if (error) {
        write_error = connection.channel.describe(error);
        // A server that refuses a body answers and closes while it is still being sent: that answer is
        // wanted.
        if (error != asio::error::broken_pipe && error != asio::error::connection_reset) {
            return tl::make_unexpected(*write_error);
        }
    }
    std::optional<Parser> parser;
    if (Status header = read_header(connection, parser); !header) {
        return tl::make_unexpected(write_error ? *write_error : header.error());
    }
    response.status = static_cast<int>(parser->get().result_int());
    for (const auto& field : parser->get()) {
        response.headers.add(std::string(field.name_string()), std::string(field.value()));
    }
    response.first_byte_seconds = base::monotonic_seconds() - start;
    const bool hidden = follows && is_redirect(response.status);
    if (handlers.on_header && !hidden) RETORT_CHECK(handlers.on_header(response));
    RETORT_CHECK(read_body(connection, *parser, response));
    return !write_error && parser->get().keep_alive() && connection.buffer.size() == 0;
}

Status Exchange::read_header(Connection& connection, std::optional<Parser>& parser) {
    while (true) {
        parser.emplace();
        parser->header_limit(max_header_bytes);
        parser->body_limit(boost::none);
        if (request.method == "HEAD") parser->skip(true);
        boost::system::error_code error;
        beast::http::read_header(connection.channel, connection.buffer, *parser, error);
        answered = answered || parser->got_some() || connection.buffer.size() > 0;
        if (error) return tl::make_unexpected(failed_read(connection, error));
        const unsigned status = parser->get().result_int();
        if (status >= 200) return {};
        if (status == 101)
            return fail(ErrorCode::format, "the server switched protocols without being asked");
    }
}

Status Exchange::read_body(Connection& connection, Parser& parser, ClientResponse& response) const {
    const bool success = response.status >= 200 && response.status < 300;
    const bool streamed = success && handlers.on_body;
    const std::uint64_t limit =
        follows && is_redirect(response.status) ? max_redirect_body : request.max_body_bytes;
    std::vector<char> piece(read_chunk);
    while (!parser.is_done()) {
        parser.get().body().data = piece.data();
        parser.get().body().size = piece.size();
        parser.get().body().more = true;
        boost::system::error_code error;
        beast::http::read_some(connection.channel, connection.buffer, parser, error);
        if (error == beast::http::error::need_buffer) error = {};
        const std::size_t count = piece.size() - parser.get().body().size;
        response.body_bytes += count;
        if (count > 0 && streamed) {
            RETORT_CHECK(handlers.on_body(std::string_view(piece.data(), count)));
        } else if (count > 0) {
            if (response.body.size() + count > limit) {
                return fail(ErrorCode::format, "the body of the answer is longer than {} bytes", limit);
            }
            response.body.append(piece.data(), count);
        }
        if (error) return tl::make_unexpected(failed_read(connection, error));
        if (request.cancelled && request.cancelled()) return fail(ErrorCode::cancelled, "cancelled");
    }
    return {};
}

}  // namespace

class Client::Implementation {
  public:
    explicit Implementation(ClientOptions options) : options_(std::move(options)) {
        if (options_.proxy_from_environment) proxies_ = proxy_settings_from_environment();
    }

    Result<ClientResponse> send(const ClientRequest& request, const StreamHandlers& handlers) {
        for (const auto& [name, value] : request.headers) RETORT_CHECK(check_field(name, value));
        RETORT_CHECK(check_field(request.method, {}));
        RETORT_TRY(Url url, parse_url(request.url));
        const double start = base::monotonic_seconds();
        Headers headers = request.headers;
        const bool may_follow = request.method == "GET" || request.method == "HEAD";
        for (int redirects = 0;; ++redirects) {
            if (!url.user_info.empty()) {
                return fail(ErrorCode::invalid_argument,
                            "{}: a user name in a URL is not sent; give an Authorization header instead",
                            url.origin());
            }
            ClientResponse response;
            response.url = url.text();
            Exchange exchange{request, handlers, start, may_follow && redirects < request.max_redirects};
            RETORT_CHECK(exchange_once(request, url, headers, exchange, response));
            response.seconds = base::monotonic_seconds() - start;
            const auto location = response.headers.find("Location");
            if (!may_follow || !is_redirect(response.status) || !location) return response;
            if (redirects >= request.max_redirects) {
                if (request.max_redirects == 0) return response;
                return fail(ErrorCode::network, "{}: more than {} redirects", url.origin(),
                            request.max_redirects);
            }
            RETORT_TRY(Url next, resolve_url(url, *location));
            if (url.tls && !next.tls) {
                return fail(ErrorCode::network, "{} redirects to {}, from https to http: not followed",
                            url.origin(), next.origin());
            }
            if (next.origin() != url.origin()) headers = without_secrets(headers);
            url = std::move(next);
        }
    }

  private:
    static Headers without_secrets(const Headers& headers) {
        Headers kept;
        for (const auto& [name, value] : headers) {
            const bool secret = equal_ignoring_case(name, "Authorization") ||
                                equal_ignoring_case(name, "X-Api-Key") || equal_ignoring_case(name, "Cookie");
            if (!secret) kept.add(name, value);
        }
        return kept;
    }

    Status exchange_once(const ClientRequest& request, const Url& url, const Headers& headers,
                         Exchange& exchange, ClientResponse& response) {
        RETORT_TRY(const std::optional<Url> proxy, proxy_for(proxies_, url));
        const std::string key = proxy ? fmt::format("{} {}@{}", url.tls ? url.origin() : "http",
                                                    proxy->user_info, proxy->host_port())
                                      : url.origin();
        const std::string message = build_message(request, url, proxy, headers);
        Channel::Patience patience;
        patience.quiet_seconds = request.read_seconds;
        patience.cancelled = &request.cancelled;
        const auto deadline_after = [&](double seconds) {
            return Channel::Clock::now() + std::chrono::duration_cast<Channel::Clock::duration>(
                                               std::chrono::duration<double>(seconds));
        };
        patience.outside_only = request.outside_only && !proxy;
        response.inside = proxy && is_literal_inside(url.host);
        if (request.outside_only && response.inside) {
            return fail(
                ErrorCode::refused,
                "{}: an address inside, to which a server outside leads: not followed; if it is meant, "
                "give that URL yourself",
                url.origin());
        }
        if (request.total_seconds > 0) {
            patience.deadline =
                deadline_after(request.total_seconds - (base::monotonic_seconds() - exchange.start));
        }
        // A kept connection may have been closed by the server just now; what is safe to ask twice is asked
        // again.
        const bool repeatable = request.method == "GET" || request.method == "HEAD";
        for (bool allow_reuse = true;; allow_reuse = false) {
            std::unique_ptr<Connection> connection = allow_reuse ? take_idle(key) : nullptr;
            if (connection && patience.outside_only && connection->channel.is_inside()) connection.reset();
            if (!connection) {
                Channel::Patience connecting = patience;
                connecting.quiet_seconds = request.connect_seconds;
                const auto limit = deadline_after(request.connect_seconds);
                connecting.deadline = patience.deadline ? std::min(*patience.deadline, limit) : limit;
                auto opened = open(url, proxy, connecting);
                if (!opened) return tl::make_unexpected(at_host(opened.error(), url, proxy));
                connection = std::move(*opened);
            }
            connection->channel.set_patience(patience);
            if (!proxy) response.inside = connection->channel.is_inside();
            Result<bool> reusable = exchange.run(*connection, message, response);
            if (reusable) {
                if (*reusable) keep_idle(key, std::move(connection));
                return {};
            }
            const bool stale = connection->reused && !exchange.answered && repeatable &&
                               reusable.error().code == ErrorCode::network;
            if (!stale) return tl::make_unexpected(at_host(reusable.error(), url, proxy));
        }
    }

    // Header and body in one piece, so that they leave in one packet.
    std::string build_message(const ClientRequest& request, const Url& url, const std::optional<Url>& proxy,
                              const Headers& headers) const {
        Headers fields{{"Host", url.authority()}, {"User-Agent", options_.user_agent}};
        if (proxy && !url.tls && !proxy->user_info.empty()) {
            fields.set("Proxy-Authorization", basic_credentials(proxy->user_info));
        }
        for (const auto& [name, value] : headers) fields.set(name, value);
        const bool has_body = !request.body.empty() || request.method == "POST" || request.method == "PUT" ||
                              request.method == "PATCH";
        if (has_body) fields.set("Content-Length", std::to_string(request.body.size()));
        std::string message =
            fmt::format("{} {} HTTP/1.1\r\n", request.method, proxy && !url.tls ? url.text() : url.target);
        for (const auto& [name, value] : fields) message += fmt::format("{}: {}\r\n", name, value);
        message += "\r\n";
        message += request.body;
        return message;
    }

    Result<std::unique_ptr<Connection>> open(const Url& url, const std::optional<Url>& proxy,
                                             const Channel::Patience& patience) {
        auto connection = std::make_unique<Connection>();
        const Url& first = proxy ? *proxy : url;
        RETORT_CHECK(connection->channel.connect(first.host, first.port, patience));
        if (!url.tls) return connection;
        if (proxy) RETORT_CHECK(open_tunnel(*connection, url, *proxy));
        RETORT_CHECK(prepare_tls());
        RETORT_CHECK(connection->channel.start_tls(*tls_, url.host, patience));
        return connection;
    }

    // At the first https request: reading the system's certificates takes OpenSSL a tenth of a second.
    Status prepare_tls() {
        std::call_once(tls_once_, [this] {
            boost::system::error_code error;
            tls_.emplace(asio::ssl::context::tls_client);
            tls_->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                                  asio::ssl::context::no_tlsv1_1,
                              error);
            if (options_.certificates.empty()) {
                tls_->set_default_verify_paths(error);  // honours SSL_CERT_FILE and SSL_CERT_DIR
            } else {
                tls_->load_verify_file(options_.certificates, error);
            }
            if (error) tls_error_ = error.message();
        });
        if (tls_error_.empty()) return {};
        return fail(ErrorCode::network, "TLS: the trusted certificates cannot be read: {}", tls_error_);
    }

    static Status open_tunnel(Connection& connection, const Url& url, const Url& proxy) {
        std::string connect = fmt::format("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n", url.host_port());
        if (!proxy.user_info.empty()) {
            connect += fmt::format("Proxy-Authorization: {}\r\n", basic_credentials(proxy.user_info));
        }
        boost::system::error_code error;
        connection.channel.write_all(connect + "\r\n", error);
        if (error) return tl::make_unexpected(connection.channel.describe(error));
        beast::http::response_parser<beast::http::empty_body> parser;
        parser.skip(true);
        beast::http::read_header(connection.channel, connection.buffer, parser, error);
        if (error) return tl::make_unexpected(failed_read(connection, error));
        if (parser.get().result_int() / 100 != 2) {
            return fail(ErrorCode::network, "the proxy refused the tunnel with status {}",
                        parser.get().result_int());
        }
        connection.buffer.clear();
        return {};
    }

    std::unique_ptr<Connection> take_idle(const std::string& key) {
        const double now = base::monotonic_seconds();
        const std::lock_guard lock(mutex_);
        auto& kept = idle_[key];
        while (!kept.empty()) {
            std::unique_ptr<Connection> connection = std::move(kept.back());
            kept.pop_back();
            if (now - connection->idle_since <= options_.idle_seconds && connection->channel.is_quiet()) {
                connection->reused = true;
                return connection;
            }
        }
        return nullptr;
    }

    void keep_idle(const std::string& key, std::unique_ptr<Connection> connection) {
        connection->idle_since = base::monotonic_seconds();
        const std::lock_guard lock(mutex_);
        auto& kept = idle_[key];
        if (kept.size() < options_.max_idle_connections) kept.push_back(std::move(connection));
    }

    ClientOptions options_;
    ProxySettings proxies_;
    std::once_flag tls_once_;
    std::optional<asio::ssl::context> tls_;
    std::string tls_error_;
    std::mutex mutex_;
    std::map<std::string, std::vector<std::unique_ptr<Connection>>> idle_;
};

Client::Client(ClientOptions options)
    : implementation_(std::make_unique<Implementation>(std::move(options))) {}

Client::~Client() = default;

Result<ClientResponse> Client::send(const ClientRequest& request) {
    return send(request, {});
}

Result<ClientResponse> Client::send(const ClientRequest& request, const StreamHandlers& handlers) {
    try {
        return implementation_->send(request, handlers);
    } catch (const std::exception& error) {  // Asio and Beast throw when memory or descriptors run out
        return fail(ErrorCode::network, "{}: {}", request.url.substr(0, 200), error.what());
    }
}

}  // namespace retort::http
