// The folder that a provider makes before serving (docs/formats/escrow.md): what is planted, the secrets that
// it follows from, and a public commitment to them. Knows no server.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "escrow/canaries.h"
#include "escrow/coins.h"
#include "escrow/vault.h"
#include "watermark/scheme.h"

namespace retort::escrow {

struct PlantSettings {
    std::optional<watermark::Scheme> scheme;  // none: answers are not marked
    double twin_share = 0.01;                 // of eligible requests; 0: none
    bool log_served = true;                   // marked answers are escrowed too
};

struct Plant {
    std::filesystem::path folder;
    PlantSettings settings;
    PublicKey escrow_key;
    std::optional<watermark::MasterKey> master_key;
    CoinStream coins;
    std::vector<Canary> canaries;

    [[nodiscard]] std::filesystem::path vault_folder() const { return folder / "escrow"; }
};

// plant.toml, master.key, coin.seed, canaries.json and commitment.json in a folder that has none of them yet,
// and the secret key that opens the escrow in `secret_file`, which belongs on another machine.
Status make_plant(const std::filesystem::path& folder, const PlantSettings& settings, std::int64_t canaries,
                  std::int64_t decoys, const std::filesystem::path& secret_file);
// What serving needs; checked against the commitment.
Result<Plant> read_plant(const std::filesystem::path& folder);
Result<SecretKey> read_secret_key(const std::filesystem::path& file);

// Text of commitment.json: hashes of everything secret, to be published before the first request.
std::string commitment_text(const Plant& plant);

std::string write_scheme_toml(const watermark::Scheme& scheme);

}  // namespace retort::escrow
