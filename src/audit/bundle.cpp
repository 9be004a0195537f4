#include "audit/bundle.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/strings.h"

namespace retort::audit {

Status write_json_file(const std::filesystem::path& file, const Json& json) {
    return base::write_file_atomic(file, formats::write_json(json, 1) + "\n");
}

Status write_bundle(const std::filesystem::path& folder, const Plan& plan, const escrow::Plant& plant,
                    const escrow::OpenedVault& vault, const std::vector<escrow::Canary>& canaries) {
    if (std::filesystem::exists(folder / "plan.json")) {
        return fail(ErrorCode::invalid_argument,
                    "{}: is there already: a plan is made once. Choose another folder",
                    (folder / "plan.json").string());
    }
    RETORT_CHECK(base::make_folders(folder / "evidence"));
    std::string records;
    for (const escrow::Record& record : vault.records) records += escrow::write_record(record) + "\n";
    RETORT_CHECK(base::write_file_atomic(folder / "records.jsonl", records));
    std::string roots;
    for (const escrow::DayRoot& root : vault.roots) roots += escrow::write_root(root) + "\n";
    RETORT_CHECK(base::write_file_atomic(folder / "roots.jsonl", roots));
    RETORT_CHECK(base::write_file_atomic(folder / "commitment.json", escrow::commitment_text(plant)));
    RETORT_CHECK(base::write_file_atomic(folder / "coin.seed", plant.coins.hex() + "\n"));
    RETORT_CHECK(base::write_file_atomic(folder / "canaries.json", escrow::write_canaries(canaries)));
    return base::write_file_atomic(folder / "plan.json", plan_text(plan));
}

Result<Bundle> read_bundle(const std::filesystem::path& folder) {
    Bundle bundle;
    bundle.folder = folder;
    RETORT_TRY(const std::string text, base::read_file(folder / "plan.json"));
    RETORT_TRY(const Json json, formats::parse_json(text, "plan.json"));
    RETORT_TRY(bundle.plan, parse_plan(json));
    bundle.plan_sha256 = base::sha256_hex(text);
    RETORT_TRY(const std::string commitment, base::read_file(folder / "commitment.json"));
    if (base::sha256_hex(commitment) != bundle.plan.commitment) {
        return fail(ErrorCode::refused, "commitment.json is not the one that the plan names");
    }
    RETORT_TRY(bundle.commitment, formats::parse_json(commitment, "commitment.json"));
    RETORT_TRY(const std::string seed, base::read_file(folder / "coin.seed"));
    RETORT_TRY(bundle.coins, escrow::CoinStream::from_hex(base::trimmed(seed)));
    RETORT_TRY(const std::string committed, formats::json_string(bundle.commitment, "coins"));
    if (bundle.coins->commitment() != committed) {
        return fail(ErrorCode::refused, "coin.seed is not the seed that was committed to");
    }
    RETORT_TRY(const std::string canaries, base::read_file(folder / "canaries.json"));
    RETORT_TRY(const std::string canary_hash, formats::json_string(bundle.commitment, "canaries"));
    if (base::sha256_hex(canaries) != canary_hash) {
        return fail(ErrorCode::refused, "canaries.json does not hold the canaries that were committed to");
    }
    RETORT_TRY(const std::string records, base::read_file(folder / "records.jsonl", std::size_t{1} << 34U));
    std::string_view rest = records;
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (line.empty()) continue;
        RETORT_TRY(escrow::Record record, escrow::parse_record(line));
        bundle.records.push_back(std::move(record));
        bundle.leaves.push_back(base::merkle_leaf(line));
    }
    RETORT_TRY(const std::string roots, base::read_file(folder / "roots.jsonl"));
    if (base::sha256_hex(roots) != bundle.plan.roots) {
        return fail(ErrorCode::refused, "roots.jsonl is not the one that the plan names");
    }
    RETORT_TRY(bundle.roots, escrow::parse_roots(roots, "roots.jsonl"));
    RETORT_CHECK(escrow::check_roots(bundle.roots, bundle.leaves));
    if (base::to_hex(base::merkle_root(bundle.leaves)) != bundle.plan.leaves) {
        return fail(ErrorCode::refused, "records.jsonl does not hold the records that the plan names");
    }
    return bundle;
}

}  // namespace retort::audit
