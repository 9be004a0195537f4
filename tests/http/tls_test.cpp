#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

#include "http/client.h"
#include "http/server.h"
#include "scripted_server.h"

namespace retort::http {
namespace {

// A key and a self-signed certificate for "localhost" alone, made for this run.
struct Identity {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    std::filesystem::path file;
    std::filesystem::path key_file;

    explicit Identity(const std::string& name) {
        X509_set_version(certificate, 2);
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
        X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
        X509_set_pubkey(certificate, key);
        X509_NAME* subject = X509_get_subject_name(certificate);
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
        X509_set_issuer_name(certificate, subject);
        X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:localhost");
        X509_add_ext(certificate, names, -1);
        X509_EXTENSION_free(names);
        X509_sign(certificate, key, EVP_sha256());
        file = std::filesystem::temp_directory_path() /
               ("retort-tls-" + std::to_string(::getpid()) + "-" + name + ".pem");
        FILE* out = std::fopen(file.c_str(), "w");
        PEM_write_X509(out, certificate);
        std::fclose(out);
        key_file = file.string() + ".key";
        out = std::fopen(key_file.c_str(), "w");
        PEM_write_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
        std::fclose(out);
    }
    ~Identity() {
        std::filesystem::remove(file);
        std::filesystem::remove(key_file);
        X509_free(certificate);
        EVP_PKEY_free(key);
    }
    Identity(const Identity&) = delete;
    Identity& operator=(const Identity&) = delete;
};

void serve_tls(int socket, const Identity& identity, std::string_view text) {
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(context, identity.certificate);
    SSL_CTX_use_PrivateKey(context, identity.key);
    SSL* tls = SSL_new(context);
    SSL_set_fd(tls, socket);
    if (SSL_accept(tls) == 1) {
        char buffer[4096];
        while (SSL_read(tls, buffer, sizeof buffer) > 0) {
            SSL_write(tls, text.data(), static_cast<int>(text.size()));
        }
    }
    SSL_free(tls);
    SSL_CTX_free(context);
}

TEST(Tls, accepts_a_trusted_certificate_of_the_right_name_and_no_other) {
    const Identity identity("trusted");
    const Identity stranger("stranger");
    ScriptedServer server([&](int socket, int) {
        serve_tls(socket, identity, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
    });
    ClientRequest request;
    request.read_seconds = 5;
    request.url = "https://localhost:" + std::to_string(server.port()) + "/";
    {
        ClientOptions options;
        options.certificates = identity.file;
        Client client(options);
        for (int i = 0; i < 3; ++i) {
            const auto response = client.send(request);
            ASSERT_TRUE(response) << response.error().message;
            EXPECT_EQ(response->body, "secret");
        }
        EXPECT_EQ(server.connections(), 1);
        ClientRequest wrong_name = request;
        wrong_name.url = "https://127.0.0.1:" + std::to_string(server.port()) + "/";
        const auto refused = client.send(wrong_name);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, ErrorCode::network);
        EXPECT_NE(refused.error().message.find("TLS"), std::string::npos) << refused.error().message;
    }
    for (const std::string& roots : {std::string(), stranger.file.string()}) {
        ClientOptions options;
        options.certificates = roots;
        Client client(options);
        const auto refused = client.send(request);
        ASSERT_FALSE(refused);
        EXPECT_NE(refused.error().message.find("certificate is not accepted"), std::string::npos)
            << refused.error().message;
    }
    ClientOptions missing;
    missing.certificates = "/nonexistent/roots.pem";
    EXPECT_NE(Client(missing).send(request).error().message.find("cannot be read"), std::string::npos);
}

TEST(Tls, a_plain_server_and_a_silent_one_are_errors) {
    ScriptedServer plain([](int socket, int) {
        (void)ScriptedServer::peer_closes(socket, 100);
        ScriptedServer::say(socket, "HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    Client client;
    ClientRequest request;
    request.url = "https://localhost:" + std::to_string(plain.port()) + "/";
    EXPECT_NE(client.send(request).error().message.find("TLS handshake failed"), std::string::npos);
    ScriptedServer silent([](int socket, int) {
        char buffer[4096];
        while (::recv(socket, buffer, sizeof buffer, 0) > 0) {
        }
    });
    request.url = "https://localhost:" + std::to_string(silent.port()) + "/";
    request.connect_seconds = 0.2;
    const auto late = client.send(request);
    ASSERT_FALSE(late);
    EXPECT_NE(late.error().message.find("timed out"), std::string::npos) << late.error().message;
}

ClientRequest post_to(const Server& server, std::string body) {
    ClientRequest request;
    request.method = "POST";
    request.url = "https://localhost:" + std::to_string(server.port()) + "/p";
    request.body = std::move(body);
    request.read_seconds = 5;
    request.connect_seconds = 5;
    return request;
}

ClientOptions trusting(const Identity& identity) {
    ClientOptions options;
    options.certificates = identity.file;
    return options;
}

TEST(TlsServer, answers_over_one_connection_and_renews_its_certificate) {
    const Identity first("first");
    const Identity second("second");
    const auto file = first.file.string() + ".served";
    const auto key_file = first.file.string() + ".served.key";
    const auto serve = [&](const Identity& identity) {
        constexpr auto over = std::filesystem::copy_options::overwrite_existing;
        std::filesystem::copy_file(identity.file, file, over);
        std::filesystem::copy_file(identity.key_file, key_file, over);
    };
    serve(first);
    ServerOptions options;
    options.host = "127.0.0.1";
    options.certificate_file = file;
    options.key_file = key_file;
    auto started = Server::start(
        options, [](const ServerRequest& request, const std::shared_ptr<ResponseWriter>& writer) {
            if (request.body != "stream") return writer->send(200, {}, request.body);
            writer->begin_stream(200, {{"Content-Type", "text/event-stream"}});
            for (int i = 0; i < 100; ++i) writer->write("data: " + std::to_string(i) + "\n\n");
            writer->end();
        });
    ASSERT_TRUE(started) << started.error().message;
    const auto& server = *started;
    Client client(trusting(first));
    const std::string large(300'000, 'x');
    for (const std::string& body : {std::string("a"), large, std::string("b"), std::string("c")}) {
        const auto response = client.send(post_to(*server, body));
        ASSERT_TRUE(response) << response.error().message;
        EXPECT_EQ(response->body, body);
    }
    EXPECT_EQ(server->connections(), 1U);
    std::string heard;
    StreamHandlers handlers;
    handlers.on_body = [&](std::string_view bytes) -> Status {
        heard += bytes;
        return {};
    };
    ASSERT_TRUE(client.send(post_to(*server, "stream"), handlers));
    EXPECT_TRUE(heard.ends_with("data: 99\n\n")) << heard.size();

    serve(second);
    ASSERT_TRUE(server->reload_certificate());
    // What is open stays; what is new is the second's.
    EXPECT_EQ(client.send(post_to(*server, "kept"))->body, "kept");
    EXPECT_FALSE(Client(trusting(first)).send(post_to(*server, "x")));
    EXPECT_EQ(Client(trusting(second)).send(post_to(*server, "new"))->body, "new");
    // A key that is not the certificate's is told of, and the old pair stays.
    std::filesystem::copy_file(first.key_file, key_file, std::filesystem::copy_options::overwrite_existing);
    const Status refused = server->reload_certificate();
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find(key_file), std::string::npos) << refused.error().message;
    EXPECT_EQ(Client(trusting(second)).send(post_to(*server, "still"))->body, "still");
    std::filesystem::remove(file);
    std::filesystem::remove(key_file);
}

TEST(TlsServer, notices_who_goes_and_lets_go_who_is_silent) {
    const Identity identity("server");
    ServerOptions options;
    options.certificate_file = identity.file;
    options.key_file = identity.key_file;
    options.handshake_seconds = 0.3;
    options.idle_seconds = 0.5;
    std::atomic<int> gone{0};
    std::mutex mutex;
    std::vector<std::shared_ptr<ResponseWriter>> writers;
    auto started = Server::start(
        options, [&](const ServerRequest& request, const std::shared_ptr<ResponseWriter>& writer) {
            if (request.body == "now") return writer->send(200, {}, "now");
            writer->on_gone([&] { ++gone; });
            const std::lock_guard lock(mutex);
            writers.push_back(writer);
        });
    ASSERT_TRUE(started) << started.error().message;
    const auto eventually = [](const std::function<bool()>& condition) {
        for (int i = 0; i < 500 && !condition(); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        return condition();
    };
    {
        Client client(trusting(identity));
        ClientRequest request = post_to(**started, "wait");
        request.read_seconds = 0.3;
        EXPECT_FALSE(client.send(request));
    }
    EXPECT_TRUE(eventually([&] { return gone == 1; }));
    writers.clear();
    // Idle between two requests, and one that never shakes hands.
    Client client(trusting(identity));
    EXPECT_EQ(client.send(post_to(**started, "now"))->body, "now");
    const int silent = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons((*started)->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(silent, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_TRUE(eventually([&] { return (*started)->connections() == 0; }));
    ::close(silent);
}

TEST(TlsServer, files_that_are_none_are_named) {
    ServerOptions options;
    options.certificate_file = "/nonexistent/certificate.pem";
    options.key_file = "/nonexistent/key.pem";
    const auto refused = Server::start(options, [](const ServerRequest&, const auto&) {});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("/nonexistent/certificate.pem"), std::string::npos);
}

}  // namespace
}  // namespace retort::http
