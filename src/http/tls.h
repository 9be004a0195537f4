// The server's TLS settings. Private to this part.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "http/session.h"

namespace retort::http {

// Errors name the file.
Result<std::shared_ptr<TlsContext>> make_tls_context(const std::string& certificate_file,
                                                     const std::string& key_file);

}  // namespace retort::http
