#include "http/url.h"

#include <gtest/gtest.h>

#include "http/proxy.h"

namespace retort::http {
namespace {

TEST(Url, parses_what_clients_write) {
    struct Case {
        const char* text;
        bool tls;
        const char* host;
        int port;
        const char* target;
    };
    for (const Case& c : {
             Case{"http://example.com", false, "example.com", 80, "/"},
             Case{"HTTPS://Example.COM/v1/models?a=b#frag", true, "example.com", 443, "/v1/models?a=b"},
             Case{"http://127.0.0.1:8080/v1", false, "127.0.0.1", 8080, "/v1"},
             Case{"https://[::1]:8443/x", true, "::1", 8443, "/x"},
             Case{"http://host?q=1", false, "host", 80, "/?q=1"},
             Case{"http://host:/", false, "host", 80, "/"},
             Case{"http://my_box.local/%20", false, "my_box.local", 80, "/%20"},
         }) {
        const auto url = parse_url(c.text);
        ASSERT_TRUE(url) << c.text << ": " << url.error().message;
        EXPECT_EQ(url->tls, c.tls) << c.text;
        EXPECT_EQ(url->host, c.host) << c.text;
        EXPECT_EQ(url->port, c.port) << c.text;
        EXPECT_EQ(url->target, c.target) << c.text;
    }
}

TEST(Url, refuses_what_is_none) {
    for (const char* text : {"", "example.com", "ftp://host/", "http://", "http:///path", "http://host:0/",
                             "http://host:65536/", "http://host:12x/", "http://ho st/", "http://host/a b",
                             "http://host/\r\nX: y", "http://[::1", "http://[::1]x/", "http://[abc]/",
                             "http://ho$t/", "http://h\xc3\xb6st/", "://host", "http//host"}) {
        const auto url = parse_url(text);
        EXPECT_FALSE(url) << text;
        if (!url) {
            EXPECT_EQ(url.error().code, ErrorCode::invalid_argument) << text;
        }
    }
}

TEST(Url, a_password_is_in_no_message_and_no_text) {
    const auto bad = parse_url("http://user:secret@host:0/");
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().message.find("secret"), std::string::npos) << bad.error().message;
    const auto url = parse_url("http://user:secret@host/x");
    ASSERT_TRUE(url);
    EXPECT_EQ(url->user_info, "user:secret");
    EXPECT_EQ(url->text(), "http://host/x");
}

TEST(Url, writes_authority_and_origin) {
    EXPECT_EQ(parse_url("https://host:443/")->authority(), "host");
    EXPECT_EQ(parse_url("https://host:80/")->authority(), "host:80");
    EXPECT_EQ(parse_url("http://[::1]/")->authority(), "[::1]");
    EXPECT_EQ(parse_url("http://[::1]:81/")->authority(), "[::1]:81");
    EXPECT_EQ(parse_url("https://host/")->origin(), "https://host:443");
}

// The normal examples of RFC 3986, 5.4.1, those that http uses.
TEST(Url, resolves_references) {
    const Url base = *parse_url("http://a/b/c/d;p?q");
    for (const auto& [reference, expected] : std::vector<std::pair<std::string, std::string>>{
             {"g", "http://a/b/c/g"},
             {"./g", "http://a/b/c/g"},
             {"g/", "http://a/b/c/g/"},
             {"/g", "http://a/g"},
             {"//g", "http://g/"},
             {"?y", "http://a/b/c/d;p?y"},
             {"g?y", "http://a/b/c/g?y"},
             {"g#s", "http://a/b/c/g"},
             {"", "http://a/b/c/d;p?q"},
             {".", "http://a/b/c/"},
             {"..", "http://a/b/"},
             {"../g", "http://a/b/g"},
             {"../../../g", "http://a/g"},
             {"/./g", "http://a/g"},
             {"/../g", "http://a/g"},
             {"https://other/x?u=http://y", "https://other/x?u=http://y"},
             {"/login?next=http://x", "http://a/login?next=http://x"},
         }) {
        const auto url = resolve_url(base, reference);
        ASSERT_TRUE(url) << reference << ": " << url.error().message;
        EXPECT_EQ(url->text(), expected) << reference;
    }
    EXPECT_FALSE(resolve_url(base, "mailto:someone"));
    EXPECT_FALSE(resolve_url(base, "javascript:alert"));
}

TEST(Url, joins_with_one_slash) {
    EXPECT_EQ(join_url("http://h/v1", "models"), "http://h/v1/models");
    EXPECT_EQ(join_url("http://h/v1/", "/models"), "http://h/v1/models");
}

TEST(Proxy, follows_the_environment) {
    const ProxySettings settings{"http://proxy:3128", "user:p%40ss@proxy2:8080",
                                 "internal.example, .corp,10.0.0.1,x:8443"};
    const auto of = [&](const char* url) {
        auto proxy = proxy_for(settings, *parse_url(url));
        EXPECT_TRUE(proxy);
        return proxy && *proxy ? (*proxy)->host_port() : std::string("none");
    };
    EXPECT_EQ(of("http://example.com/"), "proxy:3128");
    EXPECT_EQ(of("https://example.com/"), "proxy2:8080");
    EXPECT_EQ(of("http://localhost:8000/"), "none");
    EXPECT_EQ(of("http://127.0.0.1/"), "none");
    EXPECT_EQ(of("http://[::1]/"), "none");
    EXPECT_EQ(of("http://internal.example/"), "none");
    EXPECT_EQ(of("http://a.internal.example/"), "none");
    EXPECT_EQ(of("http://notinternal.example/"), "proxy:3128");
    EXPECT_EQ(of("http://a.corp/"), "none");
    EXPECT_EQ(of("http://10.0.0.1/"), "none");
    EXPECT_EQ(of("https://x:8443/"), "none");
    EXPECT_EQ(of("https://x/"), "proxy2:8080");
    EXPECT_FALSE(proxy_for({"socks5://p:1", "", ""}, *parse_url("http://e/")));
    EXPECT_EQ(*proxy_for({"http://p:1", "", "*"}, *parse_url("http://e/")), std::nullopt);
    // RFC 7617's example, and a percent-encoded '@'.
    EXPECT_EQ(basic_credentials("Aladdin:open%20sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    EXPECT_EQ(basic_credentials("u:p%40"), "Basic dTpwQA==");
}

}  // namespace
}  // namespace retort::http
