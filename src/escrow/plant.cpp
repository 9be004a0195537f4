#include "escrow/plant.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/file.h"
#include "base/strings.h"
#include "formats/json.h"
#include "formats/recipe.h"

namespace retort::escrow {

using formats::Json;

namespace {

// Readable by its owner alone from the first byte on, and never over another.
Status write_secret(const std::filesystem::path& path, std::string_view text) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) {
        return fail(ErrorCode::io, "{}: cannot be made: {}", path.string(), std::strerror(errno));
    }
    const bool whole =
        ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(file) == 0;
    const int error = errno;
    ::close(file);
    if (!whole) return fail(ErrorCode::io, "{}: cannot be written: {}", path.string(), std::strerror(error));
    return {};
}

Result<std::string> read_line(const std::filesystem::path& path) {
    RETORT_TRY(const std::string text, base::read_file(path, 4096));
    return std::string(base::trimmed(text));
}

Result<watermark::Scheme> read_scheme(const formats::TomlTable& table) {
    watermark::Scheme scheme;
    RETORT_TRY(const std::string kind, table.string("scheme"));
    RETORT_TRY(scheme.kind, watermark::kind_from_name(kind));
    RETORT_TRY(scheme.window, table.integer_or("window", scheme.window, 1, 8));
    RETORT_TRY(scheme.gamma, table.number_or("gamma", scheme.gamma, 0, 1));
    RETORT_TRY(scheme.delta, table.number_or("delta", scheme.delta, 0, 100));
    RETORT_TRY(scheme.layers, table.integer_or("layers", scheme.layers, 2, 64));
    RETORT_CHECK(watermark::check_scheme(scheme));
    return scheme;
}

}  // namespace

std::string write_scheme_toml(const watermark::Scheme& scheme) {
    std::string text =
        fmt::format("scheme = \"{}\"\nwindow = {}\n", watermark::kind_name(scheme.kind), scheme.window);
    if (scheme.kind == watermark::SchemeKind::red_green) {
        text += fmt::format("gamma = {}\ndelta = {}\n", scheme.gamma, scheme.delta);
    }
    if (scheme.kind == watermark::SchemeKind::tournament) text += fmt::format("layers = {}\n", scheme.layers);
    return text;
}

std::string commitment_text(const Plant& plant) {
    Json json{{"format", "retort-commitment-1"},
              {"coins", plant.coins.commitment()},
              {"escrow_public_key", base::to_hex(plant.escrow_key.bytes)},
              {"canaries", base::sha256_hex(write_canaries(plant.canaries))},
              {"twin_share", plant.settings.twin_share}};
    if (plant.master_key) {
        json["master_key"] = base::sha256_hex(std::string("retort master key ") + plant.master_key->hex());
        json["watermark"] = base::sha256_hex(write_scheme_toml(*plant.settings.scheme));
    }
    return formats::write_json(json, 1) + "\n";
}

Status make_plant(const std::filesystem::path& folder, const PlantSettings& settings, std::int64_t canaries,
                  std::int64_t decoys, const std::filesystem::path& secret_file) {
    if (std::filesystem::exists(folder / "plant.toml")) {
        return fail(ErrorCode::invalid_argument,
                    "{}: is there already, and answers may have been served by it: choose another folder",
                    (folder / "plant.toml").string());
    }
    if (settings.scheme) {
        RETORT_CHECK(watermark::check_scheme(*settings.scheme));
        if (settings.scheme->kind == watermark::SchemeKind::gumbel && settings.twin_share > 0) {
            return fail(
                ErrorCode::invalid_argument,
                "under the gumbel scheme the same request always gets the same answer, so that twins are "
                "never different: use --twins 0, or another scheme");
        }
    }
    RETORT_CHECK(base::make_folders(folder));
    Plant plant;
    plant.folder = folder;
    plant.settings = settings;
    plant.coins = CoinStream::random();
    plant.canaries = make_canaries(canaries, decoys);
    const KeyPair keys = make_key_pair();
    plant.escrow_key = keys.public_key;
    RETORT_CHECK(write_secret(secret_file, base::to_hex(keys.secret_key.bytes) + "\n"));
    RETORT_CHECK(write_secret(folder / "coin.seed", plant.coins.hex() + "\n"));
    RETORT_CHECK(write_secret(folder / "canaries.json", write_canaries(plant.canaries)));
    if (settings.scheme) {
        plant.master_key = watermark::MasterKey::random();
        RETORT_CHECK(write_secret(folder / "master.key", plant.master_key->hex() + "\n"));
    }
    std::string text = fmt::format(
        "# What is planted in the answers of a server.\nescrow_public_key = \"{}\"\n\n[twins]\nshare "
        "= {}\n\n"
        "[served]\nlog = {}\n",
        base::to_hex(keys.public_key.bytes), settings.twin_share, settings.log_served);
    if (settings.scheme) text += "\n[watermark]\n" + write_scheme_toml(*settings.scheme);
    RETORT_CHECK(base::write_file_atomic(folder / "commitment.json", commitment_text(plant)));
    return base::write_file_atomic(folder / "plant.toml", text);
}

Result<Plant> read_plant(const std::filesystem::path& folder) {
    Plant plant;
    plant.folder = folder;
    RETORT_TRY(const formats::TomlTable table, formats::TomlTable::read(folder / "plant.toml"));
    RETORT_TRY(const std::string key, table.string("escrow_public_key"));
    RETORT_TRY(plant.escrow_key, public_key_from_hex(key));
    RETORT_TRY(const formats::TomlTable twins, table.table_or_empty("twins"));
    RETORT_TRY(plant.settings.twin_share, twins.number_or("share", 0, 0, 1));
    RETORT_TRY(const formats::TomlTable served, table.table_or_empty("served"));
    RETORT_TRY(plant.settings.log_served, served.boolean_or("log", true));
    if (table.has("watermark")) {
        RETORT_TRY(const formats::TomlTable mark, table.table("watermark"));
        RETORT_TRY(plant.settings.scheme, read_scheme(mark));
        RETORT_TRY(const std::string master, read_line(folder / "master.key"));
        RETORT_TRY(plant.master_key, watermark::MasterKey::from_hex(master));
    }
    RETORT_CHECK(table.check_unknown_keys());
    RETORT_TRY(const std::string seed, read_line(folder / "coin.seed"));
    RETORT_TRY(plant.coins, CoinStream::from_hex(seed));
    const std::filesystem::path canaries = folder / "canaries.json";
    RETORT_TRY(const std::string text, base::read_file(canaries));
    RETORT_TRY(plant.canaries, parse_canaries(text, canaries.string()));
    RETORT_TRY(const std::string commitment, base::read_file(folder / "commitment.json"));
    if (commitment != commitment_text(plant)) {
        return fail(
            ErrorCode::refused,
            "{}: the coin seed, keys, canaries, scheme or share are not those committed to: what was planted "
            "could not be proved. Restore the files, or make a new folder",
            (folder / "commitment.json").string());
    }
    return plant;
}

Result<SecretKey> read_secret_key(const std::filesystem::path& file) {
    RETORT_TRY(const std::string text, read_line(file));
    auto key = secret_key_from_hex(text);
    if (!key) return fail_from(key.error(), file.string());
    return key;
}

}  // namespace retort::escrow
