// The attackers of the laboratory.
#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "laboratory/campaign_published.h"
#include "laboratory/campaign_unseen.h"
#include "laboratory/draws.h"
#include "laboratory/traffic.h"
#include "laboratory/wording.h"

namespace retort::laboratory {

namespace {

constexpr std::int64_t ms_a_day = 86'400'000;
constexpr std::uint64_t attacker_numbers = 1'000'000'000;  // apart from honest ones
constexpr std::uint64_t most_keys = 10'000;
// What the numbers of accounts step by; the seeds of prompts step by 31.
constexpr std::uint64_t most_families = 32;
static_assert(attacks <= 31);

bool is_scripted(Attack family) {
    return family == Attack::scaffold || family == Attack::slow || family == Attack::paraphrase ||
           family == Attack::active || family == Attack::logits || family == Attack::persona ||
           family == Attack::evolved || family == Attack::translated;
}

}  // namespace

std::string_view attack_name(Attack family) {
    constexpr std::string_view names[attacks] = {
        "scaffold", "slow",    "paraphrase", "active",         "mimic",      "adaptive",
        "logits",   "persona", "evolved",    "curriculum",     "translated", "dialogue",
        "rubric",   "hydra",   "bootstrap",  "backtranslated", "resampled",  "agentic"};
    return names[static_cast<std::size_t>(family)];
}

bool is_design_family(Attack family) {
    return family < Attack::persona;
}

bool is_unseen(Attack family) {
    return family >= Attack::rubric && family < Attack::count;
}

Campaign::Campaign(const Traffic& traffic, CampaignOptions options) : traffic_(&traffic), options_(options) {
    base::RandomStream draw(traffic.options().seed ^ 0xbadU,
                            options_.number * 64 + static_cast<std::uint64_t>(options_.family));
    const bool careful = options_.family == Attack::adaptive || options_.family == Attack::mimic ||
                         options_.family == Attack::curriculum || options_.family == Attack::dialogue;
    const std::uint64_t base =
        attacker_numbers +
        (options_.number * most_families + static_cast<std::uint64_t>(options_.family)) * most_keys;
    if (is_unseen(options_.family)) {
        people_ = unseen_people(traffic, options_, base);
        return;
    }
    const std::uint64_t proxies = 1 + options_.keys / 4;
    const std::uint64_t payments = 1 + options_.keys / 6;
    const std::uint64_t parameters = 700 + draw.below(1000);
    const std::uint64_t agent = 1 + draw.below(30);
    for (std::uint32_t i = 0; i < options_.keys; ++i) {
        Person person;
        person.number = base + i;
        person.parameters = careful ? draw.below(40) : parameters;
        person.agent = careful ? 1 + draw.below(30) : agent;
        // Careful ones buy an address and a card a key; others rent a few.
        person.address = careful ? base + i : base + draw.below(proxies);
        person.payment = careful ? base + i : base + draw.below(payments);
        person.plan = draw.uniform() < 0.7 ? "free" : "pro";
        person.hour = 14 + 3.5 * draw.normal();
        person.first_day = options_.first_day;
        // An aged account has been used lightly for weeks.
        if (options_.family == Attack::adaptive)
            person.first_day -= 14 + static_cast<std::int32_t>(draw.below(28));
        person.rate = options_.per_day;
        people_.push_back(std::move(person));
    }
}

std::string Campaign::prompt(std::uint32_t key, std::int32_t day, std::uint32_t index,
                             bool& follow_up) const {
    const PromptLibrary& library = traffic_->library();
    const std::uint64_t seed = traffic_->options().seed ^ 0xdeadU;
    const std::uint64_t theme = theme_number(options_);
    base::RandomStream random(
        seed + options_.number * 31 + static_cast<std::uint64_t>(options_.family),
        (static_cast<std::uint64_t>(key) << 32U) + static_cast<std::uint64_t>(day + 64) * 8192 + index);
    // Narrow: one part of one set, each text for one key.
    const std::vector<std::string_view>& pool = library.entries;
    const std::size_t part = std::max<std::size_t>(1, pool.size() / 4);
    const std::size_t from = (theme * 7919) % pool.size();
    const std::string_view slot = pool[(from + random.below(part)) % pool.size()];
    base::RandomStream words(seed, theme);
    const std::string_view donor = pick(library.passages, words);
    switch (options_.family) {
        case Attack::scaffold:
        case Attack::slow: {
            const std::uint64_t variants = 3 + theme % 6;
            return scaffold_text(theme, random.below(variants), donor) + "\n\n" + std::string(slot);
        }
        case Attack::paraphrase: {
            const std::string said = scaffold_text(theme, random.next_u64(), donor);
            return perturbed(said, random, 6, habit_phrase(random)) + "\n\n" + std::string(slot);
        }
        case Attack::active: {
            // A seed each of few, changed a little further with each round.
            const std::string_view origin = pool[(from + random.below(40)) % pool.size()];
            return perturbed(origin, random, 2 + static_cast<int>(random.below(4)), slot);
        }
        case Attack::mimic: {
            if (random.uniform() < 0.3) return std::string(pick(library.questions, random));
            return habit_phrase(random) +
                   std::string(random.below(3) == 0 ? pick(library.passages, random) : slot);
        }
        case Attack::adaptive: {
            const std::string said = scaffold_text(theme, random.next_u64(), donor);
            return perturbed(said, random, 8, pick(library.passages, random)) + " " + std::string(slot);
        }
        case Attack::logits: {
            return std::string(library.questions[(theme + key) % library.questions.size()]);
        }
        default:
            break;
    }
    PublishedPrompt made = published_prompt(library, options_.family, theme, slot, pool, from, random);
    follow_up = made.follow_up;
    return std::move(made.text);
}

std::vector<store::Event> Campaign::day(std::int32_t day) const {
    std::vector<store::Event> events;
    const TrafficOptions& honest = traffic_->options();
    const PromptLibrary& library = traffic_->library();
    for (std::uint32_t k = 0; k < people_.size(); ++k) {
        const Person& person = people_[k];
        if (day < person.first_day) continue;
        if (is_unseen(options_.family)) {
            for (const Request& request : unseen_requests(*traffic_, options_, person, k, day))
                events.push_back(traffic_->event_of(person, request));
            continue;
        }
        const bool attacks_now = day >= options_.first_day;
        base::RandomStream random(honest.seed ^ 0xfeedU,
                                  person.number * 4096 + static_cast<std::uint64_t>(day));
        const std::int64_t begin = honest.begin_ms + day * ms_a_day;
        const bool office = options_.family == Attack::slow;
        const bool sessions = !is_scripted(options_.family);
        const double mean = attacks_now ? person.rate : 0.6;
        const std::uint32_t count = day_count(mean, random);
        double hour = person.hour + 3 * random.normal();
        for (std::uint32_t i = 0; i < count; ++i) {
            Request request;
            if (sessions) {
                if (i == 0 || random.below(4) == 0) hour = person.hour + 4 * random.normal();
                hour += 0.02 * std::exp(random.normal());
                request.time_ms = begin + static_cast<std::int64_t>(std::clamp(hour, 0.0, 23.98) * 3'600'000);
            } else {
                const double at = office ? 8 + 10 * random.uniform() : 24 * random.uniform();
                request.time_ms = begin + static_cast<std::int64_t>(at * 3'600'000 * 0.999);
            }
            request.parameters = person.parameters;
            request.completion_tokens = 400 + static_cast<std::int64_t>(random.below(800));
            const bool cover =
                !attacks_now || (options_.family == Attack::adaptive && random.uniform() < 0.25);
            if (cover) {
                request.user = random.below(2) == 0
                                   ? std::string(pick(library.questions, random))
                                   : habit_phrase(random) + std::string(pick(library.passages, random));
            } else {
                request.user = prompt(k, day, i, request.follow_up);
                if (request.follow_up) request.messages = 3;
            }
            const bool converses = options_.family == Attack::mimic || options_.family == Attack::adaptive;
            if (converses && random.uniform() < 0.3) {
                request.follow_up = true;
                request.messages = 3;
                if (!cover && options_.family == Attack::mimic)
                    request.user = std::string(follow_up_phrase(random)) + " " + request.user;
            }
            if (options_.family == Attack::logits) {
                request.bias = "{\"" + std::to_string(random.below(50'000)) + "\":100}";
                request.completion_tokens = 1;
            }
            events.push_back(traffic_->event_of(person, request));
        }
    }
    sort_by_time(events);
    return events;
}

}  // namespace retort::laboratory
