// The OpenAI-compatible server over one engine: routes, keys, streams, errors (docs/api.md). Knows no files
// and no command line.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "api/chat_request.h"
#include "base/result.h"
#include "generate/engine.h"
#include "grammar/token_mask.h"
#include "serve/admission.h"
#include "serve/forwarder.h"
#include "serve/planting.h"
#include "serve/protected_works.h"
#include "serve/tool_calls.h"
#include "text/tokenizer.h"

namespace retort::serve {

struct ServerOptions {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;  // 0: any free one; port() tells which
    // PEM files, both or none: HTTPS. Read anew when they change, and on SIGHUP (base::take_hangup).
    std::string tls_certificate;
    std::string tls_key;
    // Any of them opens every route but /health, which needs none; empty: no key is asked for.
    std::vector<std::string> api_keys;
    // Instead of api_keys: asked before every route but /health, told after what was used.
    std::shared_ptr<Admission> admission;
    // Instead of a model: set, set_model() need not be called.
    std::shared_ptr<Forwarder> forwarder;
    std::shared_ptr<Planting> planting;  // null: nothing is planted in the answers
    std::shared_ptr<AdminRoutes> admin;  // null: there is no /admin/
    // Answers of the model are cut before they repeat one (a forwarder has its own); null: none.
    std::shared_ptr<const ProtectedWorks> protected_works;
    std::string model_id = "retort";
    std::string system_fingerprint = "retort";
    std::string cors_origin;  // of pages that may call the API; empty: none but the server's own
    std::string compare_url;  // base URL of another server, whose models the chat page offers too
    int http_threads = 2;
    std::size_t max_connections = 8192;
    std::size_t max_body_bytes = 8UL * 1024 * 1024;
    // For the rest of a header, for a body, and for a client to take what it is sent; 0: the HTTP server's
    // own.
    double client_seconds = 0;
    std::int64_t max_waiting = 256;  // requests beyond the engine's slots, above which the answer is 503
    double drain_seconds = 30;       // for answers in progress when the server stops
    double keep_alive_seconds = 15;  // a stream silent for so long gets a comment; 0: never
};

// What the server needs of a model. The engine must outlive the server.
struct ServedModel {
    generate::Engine* engine = nullptr;
    text::Tokenizer tokenizer;
    // The prompt of a conversation, by the model's own template; an error is the client's (400).
    std::function<Result<std::string>(const api::ChatRequest&)> render;
    std::vector<std::int32_t> end_of_turn_tokens;
    bool uses_think_tags = false;  // the template knows <think>: reasoning is told apart
    ToolStyle tool_style = ToolStyle::none;
    std::shared_ptr<const grammar::TokenTree> token_tree = nullptr;  // the server's own; made when it is set
};

class Server {
  public:
    // Listens when it returns. Until set_model() every route that needs a model answers 503.
    static Result<std::unique_ptr<Server>> create(ServerOptions options);
    static Result<std::unique_ptr<Server>> create(ServerOptions options, ServedModel model);
    ~Server();  // stop() and join()
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    void set_model(ServedModel model);
    [[nodiscard]] std::uint16_t port() const;
    // "http://127.0.0.1:8080/v1": what clients call their base URL.
    [[nodiscard]] std::string base_url() const;
    // No new connections; answers in progress may end within drain_seconds. Returns at once.
    void stop();
    // Until stop() has been called and done its work, or base::interrupted(), which stops it.
    void join();

  private:
    class Implementation;
    explicit Server(std::unique_ptr<Implementation> implementation);
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace retort::serve
