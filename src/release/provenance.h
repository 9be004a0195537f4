// From a model to everything that went into it: which sources, under which licence and terms, and what is
// missing. Walks lineage.json, pull.json and records' manifests; asks no network. Judges licences by the
// tables in data/spdx.h and collect/terms.h and says what it does not know.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "collect/terms.h"
#include "data/model_card.h"
#include "data/spdx.h"
#include "formats/json.h"

namespace retort::release {

struct Source {
    std::string kind;  // weights, records, shape
    std::string name;  // of weights: where they came from; of records: endpoint and model
    std::filesystem::path path;
    std::string used_as;      // teacher, start, records, …
    std::string sha256;       // of the file or folder
    std::string merkle_root;  // of the records
    std::int64_t records = 0;
    std::string licence;  // SPDX; empty: none known
    std::string terms_id;
    std::string terms_sha256;
    std::string permitted_by;
    std::string date;                     // of the terms or of the pull
    std::string where;                    // where the licence or the terms can be read
    std::vector<std::string> missing;     // what is not known, with the mend
    std::vector<std::string> objections;  // what stands against a use asked for
    std::vector<std::string> duties;      // what passing the model on asks for
};

struct Provenance {
    std::filesystem::path model;
    std::string model_sha256;
    std::vector<Source> sources;
    std::vector<std::string> missing;     // of all, each with its source's name
    std::vector<std::string> objections;  // likewise
    std::vector<std::string> duties;
    std::vector<std::string> lineages;  // files walked through
    std::string licence;  // that all sources together allow for the model's own: an AND of theirs
};

struct ProvenanceOptions {
    // Looked through for terms-*.toml and *.json beside the records' own folders.
    std::vector<std::filesystem::path> terms_folders;
    std::vector<data::Use> uses = {data::Use::train};  // what the model is meant for
};

Result<Provenance> trace(const std::filesystem::path& model, const ProvenanceOptions& options = {});

formats::Json provenance_json(const Provenance& provenance);
// For a person: a line a source, then what is missing and what stands against the uses.
std::string provenance_text(const Provenance& provenance);
// CycloneDX 1.6, an ML-BOM; the serial number follows from the contents, so that the same model gives the
// same text.
std::string cyclonedx_json(const Provenance& provenance, std::string_view version);
// The card of a release: what an export's card says where one lies beside the model, and sources and items on
// top. `check` is the report of release::check, or empty.
data::ModelCard model_card(const Provenance& provenance, const formats::Json& check);

}  // namespace retort::release
