// Provenance for machines and for readers: a CycloneDX ML-BOM, and what a model card says of it.
#include <algorithm>

#include "base/hash.h"
#include "release/provenance.h"

namespace retort::release {

using formats::Json;

namespace {

// An identifier of SPDX's list or an expression: CycloneDX takes either as an expression. What this program
// does not know how to read is a name.
Json licences_of(const std::string& licence) {
    if (licence.empty()) return Json::array();
    if (data::parse_spdx(licence)) return Json::array({{{"expression", licence}}});
    return Json::array({{{"license", {{"name", licence}}}}});
}

// RFC 4122's shape from a hash: version 5's bits, though not its namespace.
std::string uuid_from(std::string_view text) {
    std::string hex = base::sha256_hex(text).substr(0, 32);
    hex[12] = '5';
    hex[16] = "89ab"[hex[16] % 4];
    return fmt::format("urn:uuid:{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4),
                       hex.substr(16, 4), hex.substr(20));
}

bool is_sha256(std::string_view hex) {
    return hex.size() == 64 && hex.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Json component_of(const Source& source, const std::string& reference) {
    const bool weights = source.kind != "records";
    Json component = {{"type", weights ? "machine-learning-model" : "data"},
                      {"bom-ref", reference},
                      {"name", source.name},
                      {"licenses", licences_of(source.licence)}};
    if (is_sha256(source.sha256)) {
        component["hashes"] = Json::array({{{"alg", "SHA-256"}, {"content", source.sha256}}});
    }
    Json properties = Json::array({{{"name", "retort:used-as"}, {"value", source.used_as}}});
    const auto add = [&](const char* name, const std::string& value) {
        if (!value.empty()) properties.push_back({{"name", name}, {"value", value}});
    };
    add("retort:merkle-root", source.merkle_root);
    add("retort:terms", source.terms_id);
    add("retort:terms-sha256", source.terms_sha256);
    add("retort:permitted-by", source.permitted_by);
    for (const std::string& each : source.missing) add("retort:missing", each);
    for (const std::string& each : source.objections) add("retort:objection", each);
    for (const std::string& each : source.duties) add("retort:duty", each);
    component["properties"] = std::move(properties);
    if (source.where.starts_with("https://") || source.where.starts_with("http://")) {
        component["externalReferences"] =
            Json::array({{{"type", weights ? "distribution" : "license"}, {"url", source.where}}});
    }
    if (!weights) {
        component["data"] = Json::array(
            {{{"type", "dataset"},
              {"name", source.name},
              {"description", fmt::format("{} prompts with the answers of a teacher", source.records)}}});
    }
    return component;
}

}  // namespace

std::string cyclonedx_json(const Provenance& provenance, std::string_view version) {
    const std::string root = "model-" + provenance.model_sha256.substr(0, 16);
    Json components = Json::array();
    Json references = Json::array();
    Json datasets = Json::array();
    for (std::size_t i = 0; i < provenance.sources.size(); ++i) {
        const Source& source = provenance.sources[i];
        const std::string reference = fmt::format("{}-{}", source.kind, i + 1);
        components.push_back(component_of(source, reference));
        references.push_back(reference);
        if (source.kind == "records") datasets.push_back({{"ref", reference}});
    }
    Json model = {
        {"type", "machine-learning-model"},
        {"bom-ref", root},
        {"name", provenance.model.filename().empty() ? provenance.model.string()
                                                     : provenance.model.filename().string()},
        {"hashes", Json::array({{{"alg", "SHA-256"}, {"content", provenance.model_sha256}}})},
        {"licenses", licences_of(provenance.licence)},
        {"modelCard",
         {{"modelParameters",
           {{"approach", {{"type", "supervised"}}}, {"task", "text-generation"}, {"datasets", datasets}}}}}};
    Json depends = Json::array({{{"ref", root}, {"dependsOn", references}}});
    for (const Json& reference : references) depends.push_back({{"ref", reference}});
    Json bom = {{"bomFormat", "CycloneDX"},
                {"specVersion", "1.6"},
                {"version", 1},
                {"metadata",
                 {{"tools",
                   {{"components",
                     Json::array({{{"type", "application"}, {"name", "retort"}, {"version", version}}})}}},
                  {"component", model}}},
                {"components", components},
                {"dependencies", depends}};
    bom["serialNumber"] = uuid_from(formats::write_json(bom));
    return formats::write_json(bom, 2) + "\n";
}

data::ModelCard model_card(const Provenance& provenance, const Json& check) {
    data::ModelCard card = data::read_model_card(provenance.model).value_or(data::ModelCard{});
    if (card.name.empty()) card.name = provenance.model.filename().string();
    card.licence = provenance.licence;
    card.model_sha256 = provenance.model_sha256;
    card.missing = provenance.missing;
    card.objections = provenance.objections;
    card.duties = provenance.duties;
    for (const Source& source : provenance.sources) {
        card.sources.push_back({source.name, source.used_as, source.records, source.licence, source.terms_id,
                                source.merkle_root});
    }
    const Json* items = formats::json_find(check, "items");
    if (items == nullptr || !items->is_array()) return card;
    for (const Json& item : *items) {
        data::CardItem& out = card.items.emplace_back();
        out.what = formats::json_string(item, "what", "").value_or("");
        out.value = formats::json_string(item, "shown", "").value_or("");
        out.bound = formats::json_string(item, "bound", "").value_or("");
        out.holds = formats::json_boolean(item, "passed", false).value_or(false);
        const Json* interval = formats::json_find(item, "interval");
        if (interval != nullptr && interval->is_array() && interval->size() == 2 &&
            (*interval)[0].is_number() && (*interval)[1].is_number()) {
            out.interval =
                fmt::format("{:.4f} to {:.4f}", (*interval)[0].get<double>(), (*interval)[1].get<double>());
        }
    }
    return card;
}

}  // namespace retort::release
