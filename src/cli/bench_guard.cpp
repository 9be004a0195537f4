// retort bench guard: events a second, memory and ticks of the guard with many accounts, and the cost inline.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"
#include "cli/command_guard_lab.h"
#include "guard/guard.h"
#include "serve/request_facts.h"

namespace retort::cli {

namespace {

struct BenchGuardOptions {
    std::int64_t accounts = 1'000'000;
    std::int64_t events = 3'000'000;
};

std::string some_text(base::RandomStream& random, std::size_t words) {
    std::string out;
    for (std::size_t i = 0; i < words; ++i) {
        for (std::uint64_t k = 2 + random.below(8); k > 0; --k)
            out += static_cast<char>('a' + random.below(26));
        out += ' ';
    }
    return out;
}

double resident_gigabytes() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1e6;
}

// Microseconds a request: its fields alone, and with its sketch.
std::pair<double, double> inline_cost(std::size_t bytes) {
    base::RandomStream random(3);
    constexpr int most = 200;
    std::vector<std::string> bodies;
    bodies.reserve(most);
    for (int i = 0; i < most; ++i) {
        bodies.push_back(nlohmann::json{{"model", "m"},
                                        {"max_tokens", 100},
                                        {"messages",
                                         {{{"role", "system"}, {"content", some_text(random, 40)}},
                                          {{"role", "user"}, {"content", some_text(random, bytes / 6)}}}}}
                             .dump());
    }
    const guard::SketchKey key{1, 2};
    const auto best = [&](const guard::SketchKey* with) {
        double fastest = 1e9;
        for (int round = 0; round < 30; ++round) {
            const double start = base::monotonic_seconds();
            for (const std::string& body : bodies) (void)serve::read_facts(body, with);
            fastest =
                std::min(fastest, (base::monotonic_seconds() - start) / static_cast<double>(bodies.size()));
        }
        return fastest * 1e6;
    };
    return {best(nullptr), best(&key)};
}

Status run_bench_guard(const BenchGuardOptions& options, const CommonOptions& common) {
    const auto accounts = static_cast<std::uint64_t>(options.accounts);
    constexpr std::int64_t begin = std::int64_t{2900} * 7 * 86'400'000;
    base::RandomStream random(1);
    const guard::SketchKey key{5, 6};
    // No two prompts are alike. A third of the accounts write each of theirs into a frame of words, the same
    // always, that some sixteen accounts in a million have; the others only know their own words.
    constexpr int most_frames = 20'000;
    std::vector<std::string> frames;
    frames.reserve(most_frames);
    for (int i = 0; i < most_frames; ++i) frames.push_back(some_text(random, 20));
    const auto sketch_of = [&](std::uint64_t who) {
        const std::uint64_t drawn = base::xxh3_64(std::as_bytes(std::span(&who, 1)));
        const std::string frame = drawn % 3 == 0 ? frames[drawn / 3 % frames.size()] : std::string();
        const std::string text = frame + some_text(random, 30);
        guard::PromptView view;
        view.user = text;
        guard::add_message(view, "user", text);
        return guard::write_sketch(guard::sketch_prompt(key, view));
    };
    struct Made {
        std::uint64_t who;
        std::string sketch;
    };
    std::vector<Made> made;
    guard::Guard guard{guard::GuardOptions{}};
    std::size_t verdicts = 0;
    const auto count = [&](const guard::Verdict&) { ++verdicts; };
    store::Event event;
    event.method = "POST";
    event.status = 200;
    event.end = "finished";
    event.plan = "basic";
    const std::int64_t step = std::int64_t{6} * 86'400'000 / std::max<std::int64_t>(options.events, 1);
    double in_ticks = 0;
    double slowest_tick = 0;
    std::int64_t ticks = 0;
    const double before = resident_gigabytes();
    base::Progress progress("guard", static_cast<std::uint64_t>(options.events), "events",
                            common.quiet || common.json);
    double seconds = 0;  // without the making of the prompts
    std::int64_t last_hour = -1;
    constexpr std::int64_t chunk = 100'000;
    for (std::int64_t first = 0; first < options.events; first += chunk) {
        const std::int64_t end = std::min(options.events, first + chunk);
        made.clear();
        for (std::int64_t i = first; i < end; ++i) {
            const std::uint64_t who =
                i < options.accounts ? static_cast<std::uint64_t>(i) : random.below(accounts);
            made.push_back({who, sketch_of(who)});
        }
        const double start = base::monotonic_seconds();
        for (std::int64_t i = first; i < end; ++i) {
            Made& now = made[static_cast<std::size_t>(i - first)];
            event.time_ms = begin + i * step;
            for (std::size_t b = 0; b < 8; ++b) {
                event.account[b] = static_cast<std::uint8_t>(now.who >> (8 * b));
            }
            event.account[15] = 1;
            event.parameters = now.who % 50;
            event.sketch = std::move(now.sketch);
            // A tick is what the first event of an hour waits for.
            const bool ticks_now = event.time_ms / 3'600'000 != last_hour;
            last_hour = event.time_ms / 3'600'000;
            const double from = ticks_now ? base::monotonic_seconds() : 0;
            guard.add(event, count);
            if (!ticks_now) continue;
            const double took = base::monotonic_seconds() - from;
            in_ticks += took;
            slowest_tick = std::max(slowest_tick, took);
            ++ticks;
        }
        seconds += base::monotonic_seconds() - start;
        progress.update(static_cast<std::uint64_t>(end));
    }
    progress.finish();
    const double save_from = base::monotonic_seconds();
    const std::size_t saved = guard.save().size();
    const double save_seconds = base::monotonic_seconds() - save_from;
    const double memory = resident_gigabytes();
    const auto [fields_short, all_short] = inline_cost(600);
    const auto [fields_long, all_long] = inline_cost(16'000);
    const double rate = static_cast<double>(options.events) / seconds;
    const double rate_between = static_cast<double>(options.events) / (seconds - in_ticks);
    if (common.json) {
        fmt::print("{}\n", nlohmann::json{{"machine", base::cpu_description()},
                                          {"accounts", guard.accounts().size()},
                                          {"events", options.events},
                                          {"events_s", rate},
                                          {"events_s_between_ticks", rate_between},
                                          {"ticks", ticks},
                                          {"slowest_tick_s", slowest_tick},
                                          {"account_bytes", sizeof(guard::AccountState)},
                                          {"peak_gb", memory},
                                          {"peak_gb_before", before},
                                          {"checkpoint_bytes", saved},
                                          {"checkpoint_s", save_seconds},
                                          {"inline_us_600_bytes", all_short},
                                          {"inline_us_16000_bytes", all_long},
                                          {"sketch_us_600_bytes", all_short - fields_short},
                                          {"sketch_us_16000_bytes", all_long - fields_long}}
                               .dump());
        return {};
    }
    fmt::print("{}\n", base::cpu_description());
    fmt::print(
        "{} accounts of {} bytes, {} events: {:.0f} events/s with {} ticks (the slowest {:.2f} s), {:.0f} "
        "between them; one thread\n",
        guard.accounts().size(), sizeof(guard::AccountState), options.events, rate, ticks, slowest_tick,
        rate_between);
    fmt::print(
        "{:.2f} GB at the peak, {:.2f} of it before the first event; a checkpoint is {} bytes and takes "
        "{:.2f} s\n",
        memory, before, saved, save_seconds);
    fmt::print(
        "inline, a request of 600 bytes: {:.1f} us, of which the sketch {:.1f}; of 16,000 bytes: {:.1f}, of "
        "which {:.1f}\n",
        all_short, all_short - fields_short, all_long, all_long - fields_long);
    return {};
}

}  // namespace

void add_bench_guard(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchGuardOptions>();
    CLI::App& command = commands.add_nested(
        bench, "guard", "events a second and memory of the guard with many accounts, and its cost inline",
        {"retort bench guard --accounts 1000000"},
        [options](const CommonOptions& common) { return run_bench_guard(*options, common); });
    command.add_option("--accounts", options->accounts, "accounts")
        ->check(CLI::Range(1, 100'000'000))
        ->type_name("N");
    command.add_option("--events", options->events, "events over six days")
        ->check(CLI::Range(1, 1'000'000'000))
        ->type_name("N");
    commands.add_json_option(command);
}

}  // namespace retort::cli
