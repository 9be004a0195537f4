// retort guard explain: which prompts of a cluster share which scaffold, with the slots marked.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/hash.h"
#include "cli/command_guard_lab.h"
#include "guard/guard.h"
#include "serve/accounts_admission.h"

namespace retort::cli {

namespace {

struct GuardExplainOptions {
    std::string log;
    std::string store = "retort.db";
    std::string secret_file;
    std::int64_t cluster = 1;
    std::int64_t shown = 5;
};

// The user's last message, or a completion's prompt.
std::string prompt_of(const std::string& body) {
    const auto json = nlohmann::json::parse(body, nullptr, false);
    if (!json.is_object()) return {};
    if (const auto prompt = json.find("prompt"); prompt != json.end() && prompt->is_string())
        return prompt->get<std::string>();
    std::string out;
    const auto messages = json.find("messages");
    if (messages == json.end() || !messages->is_array()) return {};
    for (const auto& message : *messages) {
        if (!message.is_object() || message.value("role", nlohmann::json()) != "user") continue;
        const auto content = message.find("content");
        if (content != message.end() && content->is_string()) out = content->get<std::string>();
    }
    return out;
}

// Marks, by byte, what stands in a gram of the scaffold.
void mark_scaffold(const guard::WindowGrams& window, const std::set<std::uint32_t>& scaffold,
                   std::vector<bool>& marked) {
    for (std::size_t i = 0; i < window.grams.size(); ++i) {
        if (!scaffold.contains(window.grams[i])) continue;
        const std::size_t last = std::min(i + guard::PromptSketch::gram_words, window.words.size()) - 1;
        for (std::size_t b = window.words[i].begin; b < window.words[last].begin + window.words[last].size;
             ++b)
            marked[b] = true;
    }
}

// The prompt on one line: scaffold as it stands, each slot between ‹ and ›, long ones cut.
std::string with_slots(const std::string& text, const std::vector<bool>& marked) {
    constexpr std::size_t longest_slot = 70;
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
        std::size_t end = i;
        while (end < text.size() && marked[end] == marked[i]) ++end;
        std::string part = text.substr(i, end - i);
        for (char& c : part)
            if (static_cast<unsigned char>(c) < 0x20) c = ' ';
        if (marked[i]) {
            out += part;
        } else if (part.find_first_not_of(' ') == std::string::npos) {
            out += part;
        } else {
            std::size_t cut = std::min(part.size(), longest_slot);
            while (cut < part.size() && (static_cast<unsigned char>(part[cut]) & 0xc0U) == 0x80) --cut;
            out += "‹" + part.substr(0, cut) + (cut < part.size() ? "…" : "") + "›";
        }
        i = end;
    }
    return out;
}

Status explain(const GuardExplainOptions& options, const CommonOptions& common) {
    RETORT_TRY(const store::Secret secret, serve::store_secret(options.store, options.secret_file));
    const guard::SketchKey key = guard::sketch_key(secret);
    guard::Guard guard{guard::GuardOptions{}};
    const auto ignore = [](const guard::Verdict&) {};
    RETORT_CHECK(store::read_events(options.log, [&](const store::Event& event) -> Status {
        guard.add(event, ignore);
        return {};
    }));
    guard.end_tick(ignore);
    if (options.cluster > static_cast<std::int64_t>(guard.clusters().size())) {
        return fail(ErrorCode::invalid_argument, "--cluster: the log's last week has {} clusters",
                    guard.clusters().size());
    }
    const guard::Cluster& cluster = guard.clusters()[static_cast<std::size_t>(options.cluster) - 1];
    std::set<store::ShortHash> members;
    for (const std::uint32_t member : cluster.members) members.insert(guard.accounts()[member].id);
    const std::set<std::uint32_t> scaffold(cluster.scaffold.begin(), cluster.scaffold.end());
    const std::int64_t window = guard.time_ms() / guard.options().window_ms * guard.options().window_ms;
    std::size_t with_body = 0;
    std::size_t sharing = 0;
    std::map<store::ShortHash, std::string> examples;  // one an account
    RETORT_CHECK(store::read_events(options.log, [&](const store::Event& event) -> Status {
        if (event.time_ms < window || event.body.empty() || !members.contains(event.account)) return {};
        ++with_body;
        const std::string text = prompt_of(event.body);
        std::vector<bool> marked(text.size(), false);
        mark_scaffold(guard::head_grams(key, text), scaffold, marked);
        mark_scaffold(guard::tail_grams(key, text), scaffold, marked);
        if (std::find(marked.begin(), marked.end(), true) == marked.end()) return {};
        ++sharing;
        examples.try_emplace(event.account, with_slots(text, marked));
        return {};
    }));
    nlohmann::ordered_json evidence = nlohmann::ordered_json::object();
    for (std::size_t k = 0; k < guard::evidence_kinds; ++k)
        if (cluster.z[k] > 2) evidence[std::string(guard::evidence_name(k))] = cluster.z[k];
    if (common.json) {
        nlohmann::ordered_json shown = nlohmann::ordered_json::array();
        for (const auto& [account, text] : examples) {
            if (static_cast<std::int64_t>(shown.size()) == options.shown) break;
            shown.push_back({{"account", base::to_hex(account)}, {"prompt", text}});
        }
        fmt::print("{}\n", nlohmann::ordered_json{{"accounts", members.size()},
                                                  {"requests", cluster.requests},
                                                  {"score", cluster.score},
                                                  {"evidence", evidence},
                                                  {"scaffold_grams", scaffold.size()},
                                                  {"with_body", with_body},
                                                  {"sharing", sharing},
                                                  {"examples", shown}}
                               .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
        return {};
    }
    fmt::print("{} accounts, {:.0f} requests, score {:.1f}; {} grams shared; {}\n", members.size(),
               cluster.requests, cluster.score, scaffold.size(), evidence.dump());
    if (with_body == 0) {
        fmt::print(
            "The log has no bodies (retort serve --log-bodies): the shared grams are known, not their "
            "words.\n");
        return {};
    }
    fmt::print("{} of {} prompts share them; slots stand between ‹ and ›:\n", sharing, with_body);
    std::int64_t count = 0;
    for (const auto& [account, text] : examples) {
        if (count++ == options.shown) break;
        fmt::print("{}  {}\n", base::to_hex(account).substr(0, 8), text);
    }
    return {};
}

}  // namespace

void add_guard_explain(Commands& commands, CLI::App& guard) {
    auto options = std::make_shared<GuardExplainOptions>();
    CLI::App& command =
        commands.add_nested(guard, "explain", "which prompts of a cluster share which scaffold, slots marked",
                            {"retort guard explain retort.db.events --store retort.db --cluster 1"},
                            [options](const CommonOptions& common) { return explain(*options, common); });
    command.add_option("log", options->log, "an event log with bodies (retort serve --log-bodies)")
        ->required()
        ->type_name("FOLDER");
    command.add_option("--cluster", options->cluster, "its place in `retort guard clusters`")
        ->check(CLI::Range(1, 1'000'000))
        ->type_name("N");
    command.add_option("--top", options->shown, "examples, each of another account")
        ->check(CLI::Range(1, 10'000))
        ->type_name("N");
    command.add_option("--store", options->store, "the store whose secret made the sketches")
        ->envname("RETORT_STORE")
        ->type_name("STORE");
    command.add_option("--store-secret", options->secret_file, "file of its secret")
        ->envname("RETORT_STORE_SECRET")
        ->type_name("FILE");
    commands.add_json_option(command);
}

}  // namespace retort::cli
