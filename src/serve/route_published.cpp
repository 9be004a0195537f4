// GET /audit/commitment.json and /audit/roots.jsonl: what a server that plants has committed to. No key: they
// are for everybody, or they would commit to nothing.
#include "base/file.h"
#include "serve/routes.h"

namespace retort::serve {

void answer_published(const Service& service, Call& call,
                      const std::shared_ptr<const ServedModel>& /*model*/) {
    const auto& planting = service.options.planting;
    if (!planting) return call.send(api::route_not_found(call.request.method, call.request.path));
    const bool roots = call.request.path == "/audit/roots.jsonl";
    const std::filesystem::path file = roots ? planting->plant().vault_folder() / "roots.jsonl"
                                             : planting->plant().folder / "commitment.json";
    std::error_code error;
    const bool none_yet = roots && !std::filesystem::exists(file, error);
    const Result<std::string> text = none_yet ? Result<std::string>(std::string()) : base::read_file(file);
    if (!text) return call.send(api::server_error("The file could not be read."));
    call.headers.set("Content-Type", roots ? "application/jsonl" : "application/json");
    call.headers.set("Cache-Control", "no-cache");
    call.send(200, *text);
}

}  // namespace retort::serve
