#include "http/tls.h"

#include <openssl/ssl.h>

namespace retort::http {

namespace {

// Clients that offer h2 too must be told what is spoken.
int choose_protocol(SSL* /*tls*/, const unsigned char** out, unsigned char* out_size,
                    const unsigned char* offered, unsigned int offered_size, void* /*data*/) {
    static constexpr unsigned char ours[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
    unsigned char* chosen = nullptr;
    if (SSL_select_next_proto(&chosen, out_size, ours, sizeof ours, offered, offered_size) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

}  // namespace

Result<std::shared_ptr<TlsContext>> make_tls_context(const std::string& certificate_file,
                                                     const std::string& key_file) {
    using Error = boost::system::error_code;
    auto context = std::make_shared<TlsContext>(TlsContext::tls_server);
    SSL_CTX* native = context->native_handle();
    Error error;
    context->set_options(TlsContext::no_sslv2 | TlsContext::no_sslv3 | TlsContext::no_tlsv1 |
                             TlsContext::no_tlsv1_1 | TlsContext::no_compression,
                         error);
    SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_alpn_select_cb(native, choose_protocol, nullptr);
    static constexpr unsigned char name[] = "retort";
    SSL_CTX_set_session_id_context(native, name, sizeof name - 1);
    context->use_certificate_chain_file(certificate_file, error);
    if (error) {
        return fail(ErrorCode::invalid_argument, "{}: no PEM certificate can be read from it: {}",
                    certificate_file, error.message());
    }
    context->use_private_key_file(key_file, TlsContext::pem, error);
    if (error) {
        return fail(ErrorCode::invalid_argument,
                    "{}: no PEM key for the certificate in {} can be read from it: {}", key_file,
                    certificate_file, error.message());
    }
    if (SSL_CTX_check_private_key(native) != 1) {
        return fail(ErrorCode::invalid_argument, "{} is not the key of the certificate in {}", key_file,
                    certificate_file);
    }
    return context;
}

}  // namespace retort::http
