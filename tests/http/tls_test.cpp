#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <filesystem>

#include "http/client.h"
#include "scripted_server.h"

namespace retort::http {
namespace {

// A key and a self-signed certificate for "localhost" alone, made for this run.
struct Identity {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    std::filesystem::path file;

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
    }
    ~Identity() {
        std::filesystem::remove(file);
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

}  // namespace
}  // namespace retort::http
