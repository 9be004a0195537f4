#include "laboratory/campaign_unseen.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "laboratory/draws.h"
#include "laboratory/unseen_prompts.h"

namespace retort::laboratory {

namespace {

constexpr std::int64_t milliseconds_a_day = 86'400'000;
constexpr std::uint64_t window_part = 1;

// What a campaign's keys share, and what each has for itself.
struct Sharing {
    std::uint32_t keys_an_address = 1;
    std::uint32_t keys_a_payment = 1;
    bool one_client = true;
    bool one_setting = true;      // of the request's parameters
    bool common_setting = false;  // one that others use too
    double free = 0.7;            // share of keys on the free plan
    double pro = 0.3;
};

Sharing sharing_of(Attack family) {
    Sharing out;
    switch (family) {
        case Attack::rubric:
            // One queue behind a load balancer, paid for together (after Anthropic 2026).
            out.keys_an_address = 4;
            out.keys_a_payment = 6;
            break;
        case Attack::hydra:
            // Bought accounts behind one relay, which speaks for all of them as one client.
            out.one_setting = false;
            out.free = 0.3;
            out.pro = 0.7;
            break;
        case Attack::bootstrap:
            // Exits are cheap and change with the key; cards are what it is short of.
            out.keys_a_payment = 10;
            break;
        case Attack::resampled:
            // A prepaid card a key, all from a few rented machines, at the settings that papers give.
            out.keys_an_address = 5;
            out.common_setting = true;
            break;
        case Attack::agentic:
            // Accounts of several kinds, come by in several ways (after Anthropic 2026).
            out.one_client = out.one_setting = false;
            out.free = 0.4;
            out.pro = 0.4;
            break;
        case Attack::backtranslated:
        default:
            out.one_client = out.one_setting = false;
            break;
    }
    return out;
}

// Writes one key's day.
class KeyDay {
  public:
    KeyDay(const Traffic& traffic, const CampaignOptions& options, const Person& person, std::uint32_t key,
           std::int32_t day)
        : traffic_(traffic),
          options_(options),
          person_(person),
          key_(key),
          day_(day),
          theme_(traffic.library(), traffic.options().seed, theme_number(options)),
          random_(traffic.options().seed ^ 0xf00dU, person.number * 4096 + static_cast<std::uint64_t>(day)),
          begin_(traffic.options().begin_ms + day * milliseconds_a_day) {}

    std::vector<Request> write() {
        const std::uint32_t count = day_count(person_.rate, random_);
        if (day_ < options_.first_day) {
            if (options_.family == Attack::hydra) serve_customers(count / 2);
            return std::move(out_);
        }
        switch (options_.family) {
            case Attack::rubric:
                rubric(count);
                break;
            case Attack::hydra:
                hydra(count);
                break;
            case Attack::bootstrap:
                bootstrap(count);
                break;
            case Attack::backtranslated:
                backtranslated(count);
                break;
            case Attack::resampled:
                resampled(count);
                break;
            case Attack::agentic:
                agentic(count);
                break;
            default:
                break;
        }
        return std::move(out_);
    }

  private:
    Request& put(double hour, std::string system, std::string user, double answer) {
        Request request;
        request.time_ms = begin_ + static_cast<std::int64_t>(std::clamp(hour, 0.0, 23.999) * 3'600'000);
        request.messages = system.empty() ? 1 : 2;
        request.system = std::move(system);
        request.user = std::move(user);
        request.parameters = person_.parameters;
        request.completion_tokens = static_cast<std::int64_t>(log_normal(random_, answer, 0.5));
        out_.push_back(std::move(request));
        return out_.back();
    }

    // The queue is worked off by all keys at once, in two runs a day.
    void rubric(std::uint32_t count) {
        base::RandomStream runs = theme_.drawn((window_part << 32U) + static_cast<std::uint64_t>(day_));
        const double starts[] = {9 * runs.uniform(), 12 + 8 * runs.uniform()};
        const double hours = 2 + 2 * runs.uniform();
        for (std::uint32_t i = 0; i < count; ++i) {
            const double start = starts[random_.below(2)];
            const double hour = start + hours * random_.uniform();
            Asked asked = rubric_prompt(theme_, random_);
            put(hour, std::move(asked.system), std::move(asked.user), 350);
        }
    }

    // A proxy's customers: each is somebody like the honest, and keeps to one key as long as that has room.
    void serve_customers(std::uint32_t most) {
        const std::vector<Person>& honest = traffic_.people();
        const auto customers = static_cast<std::uint64_t>(std::max(1.0, 0.6 * person_.rate));
        // Another comes first each day.
        const std::uint64_t turn = random_.below(customers);
        for (std::uint64_t i = 0; i < customers && out_.size() < most; ++i) {
            const std::uint64_t which = (turn + i) % customers;
            base::RandomStream draw(traffic_.options().seed ^ 0xcafeU, (person_.number << 12U) + which);
            for (int tries = 0; tries < 40; ++tries) {
                const Person& like = honest[draw.below(honest.size())];
                const bool fits = like.kind == Honest::chat || like.kind == Honest::own_tool ||
                                  like.kind == Honest::app || like.kind == Honest::agent;
                if (!fits || like.first_day > std::max(0, person_.first_day)) continue;
                Person customer = like;
                customer.number = (person_.number << 12U) + which;
                customer.last_day = 1 << 20;
                std::vector<Request> asked = traffic_.requests_of(customer, day_);
                out_.insert(out_.end(), std::make_move_iterator(asked.begin()),
                            std::make_move_iterator(asked.end()));
                break;
            }
        }
        if (out_.size() > most) out_.resize(most);
    }

    // A cluster of accounts that a proxy service runs, with the campaign's requests among those of unrelated
    // customers (Anthropic 2026; such resellers: Zhang et al. 2026, arXiv:2603.01919).
    void hydra(std::uint32_t count) {
        serve_customers(count / 2);
        base::RandomStream campaign = theme_.drawn(window_part);
        const std::uint64_t setting = 1 + campaign.below(60);
        for (auto i = static_cast<std::uint32_t>(out_.size()); i < count; ++i) {
            const double hour = 24 * random_.uniform();
            put(hour, "", trace_prompt(theme_, random_), 900).parameters = setting;
        }
    }

    void bootstrap(std::uint32_t count) {
        // Some ten tasks of an answer pass the filters and can be shown from the next day on.
        const auto made =
            static_cast<std::uint64_t>((day_ - options_.first_day) * 10.0 * options_.per_day * options_.keys);
        for (std::uint32_t i = 0; i < count; ++i) {
            const double hour = 24 * random_.uniform();
            put(hour, "", bootstrap_prompt(theme_, made, random_), 1200);
        }
    }

    // A tool that works off a folder: some blocks a day, a document after the other.
    void backtranslated(std::uint32_t count) {
        double hour = 0;
        for (std::uint32_t i = 0; i < count;) {
            if (i == 0 || random_.below(8) == 0) hour = person_.hour + 3 * random_.normal();
            Asked asked = backtranslated_prompt(theme_, key_, false, random_);
            put(hour, asked.system, std::move(asked.user), 60);
            hour += log_normal(random_, 0.008, 0.7);
            ++i;
            if (i == count || random_.uniform() > 0.4) continue;
            asked = backtranslated_prompt(theme_, key_, true, random_);
            Request& more = put(hour, std::move(asked.system), std::move(asked.user), 450);
            more.follow_up = true;
            more.messages += 2;
            hour += log_normal(random_, 0.01, 0.7);
            ++i;
        }
    }

    // Workers take what is next: the copies of a question go out together, by whichever keys are idle.
    void resampled(std::uint32_t count) {
        constexpr double copies = 16;
        const double questions = std::max(1.0, options_.per_day * options_.keys / copies);
        const auto first = static_cast<std::uint64_t>(day_ - options_.first_day) << 32U;
        for (std::uint32_t i = 0; i < count; ++i) {
            const double at = random_.uniform();
            put(24 * at, "", resampled_prompt(theme_, first + static_cast<std::uint64_t>(at * questions)),
                2500);
        }
    }

    // Trajectories in a public framework (agentic coding and the use of tools: Anthropic 2026), each goal
    // tried three times by whichever keys are idle.
    void agentic(std::uint32_t count) {
        base::RandomStream own = theme_.drawn((window_part << 33U) + key_);
        const std::string system =
            framework_prompt(traffic_.library(), traffic_.options().seed, own.below(public_frameworks));
        constexpr double steps_a_run = 16;
        const auto goals =
            static_cast<std::uint64_t>(std::max(1.0, options_.per_day * options_.keys / steps_a_run / 3));
        const auto first = static_cast<std::uint64_t>(day_ - options_.first_day) << 32U;
        for (std::uint32_t done = 0; done < count;) {
            double hour = 23.5 * random_.uniform();
            const std::uint64_t steps = 8 + random_.below(17);
            const std::string goal = agent_goal(theme_, first + random_.below(goals));
            for (std::uint64_t i = 0; i < steps && done < count; ++i, ++done) {
                const std::string_view seen = random_.below(3) == 0
                                                  ? pick(traffic_.library().passages, random_)
                                                  : theme_.entry(random_);
                Request& request =
                    put(hour, system, i == 0 ? goal : "Observation: " + std::string(seen), 180);
                request.follow_up = i > 0;
                request.messages = static_cast<std::int64_t>(2 * i + 2);
                hour += log_normal(random_, 0.0018, 0.5);
            }
        }
    }

    const Traffic& traffic_;
    const CampaignOptions& options_;
    const Person& person_;
    std::uint32_t key_;
    std::int32_t day_;
    Theme theme_;
    base::RandomStream random_;
    std::int64_t begin_;
    std::vector<Request> out_;
};

}  // namespace

std::vector<Person> unseen_people(const Traffic& traffic, const CampaignOptions& options,
                                  std::uint64_t base) {
    base::RandomStream draw(traffic.options().seed ^ 0xbadU,
                            options.number * 64 + static_cast<std::uint64_t>(options.family));
    const Sharing sharing = sharing_of(options.family);
    const std::uint64_t setting = sharing.common_setting ? 1 + draw.below(60) : 700 + draw.below(1000);
    const std::uint64_t client = 1 + draw.below(30);
    const auto shared = [&](std::uint32_t i, std::uint32_t keys_each) {
        return keys_each == 1 ? base + i : base + draw.below(1 + options.keys / keys_each);
    };
    std::vector<Person> people;
    for (std::uint32_t i = 0; i < options.keys; ++i) {
        Person person;
        person.number = base + i;
        person.parameters = sharing.one_setting ? setting : draw.below(40);
        person.agent = sharing.one_client ? client : 1 + draw.below(30);
        person.address = shared(i, sharing.keys_an_address);
        person.payment = shared(i, sharing.keys_a_payment);
        const double plan = draw.uniform();
        person.plan = plan < sharing.free ? "free" : plan < sharing.free + sharing.pro ? "pro" : "business";
        person.hour = 14 + 3.5 * draw.normal();
        person.first_day = options.first_day;
        // A proxy has served customers for weeks before the campaign comes to it.
        if (options.family == Attack::hydra)
            person.first_day -= 14 + static_cast<std::int32_t>(draw.below(42));
        person.rate = options.per_day;
        people.push_back(std::move(person));
    }
    return people;
}

std::vector<Request> unseen_requests(const Traffic& traffic, const CampaignOptions& options,
                                     const Person& person, std::uint32_t key, std::int32_t day) {
    return KeyDay(traffic, options, person, key, day).write();
}

}  // namespace retort::laboratory
