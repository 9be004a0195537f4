#include "laboratory/traffic.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "base/random.h"
#include "laboratory/draws.h"
#include "laboratory/wording.h"

namespace retort::laboratory {

namespace {

constexpr std::int64_t day_ms = 86'400'000;
constexpr std::uint64_t day_stream = std::uint64_t{1} << 40U;

int poisson(base::RandomStream& random, double mean) {
    // Knuth's product for small means, a rounded normal for large ones.
    if (mean > 30)
        return std::max(0, static_cast<int>(std::lround(mean + std::sqrt(mean) * random.normal())));
    const double limit = std::exp(-mean);
    int count = 0;
    for (double product = random.uniform(); product > limit; product *= random.uniform()) ++count;
    return count;
}

std::int64_t at_hour(const TrafficOptions& options, std::int32_t day, double hour) {
    const double wrapped = std::clamp(hour, 0.0, 23.98);
    return options.begin_ms + day * day_ms + static_cast<std::int64_t>(wrapped * 3'600'000);
}

bool is_weekend(std::int32_t day) {
    return day % 7 >= 5;
}

class Writer {
  public:
    Writer(const Traffic& traffic, const Person& person, std::int32_t day)
        : traffic_(traffic),
          library_(traffic.library()),
          options_(traffic.options()),
          person_(person),
          day_(day),
          random_(options_.seed, day_stream + person.number * 4096 + static_cast<std::uint64_t>(day)),
          own_(options_.seed ^ 0x5555U, person.number) {}

    std::vector<Request> write() {
        switch (person_.kind) {
            case Honest::chat:
                sessions("", 1);
                break;
            case Honest::own_tool:
                own_tool();
                break;
            case Honest::app:
                sessions(app_system(), 0.5);
                break;
            case Honest::company:
                sessions(company_system(), 0.6);
                break;
            case Honest::agent:
                agent();
                break;
            case Honest::batch:
                batch();
                break;
            case Honest::harness:
                harness();
                break;
            case Honest::students:
                students();
                break;
            case Honest::bureau:
                bureau();
                break;
            case Honest::licensed:
                licensed();
                break;
            case Honest::count:
                break;
        }
        return std::move(out_);
    }

  private:
    std::string_view text() {
        return random_.below(3) == 0 ? pick(library_.passages, random_) : pick(library_.entries, random_);
    }

    // What a person types first: a question as it stands, or a phrase of theirs around a text.
    std::string opening() {
        if (random_.uniform() < 0.3) return std::string(pick(library_.questions, random_));
        base::RandomStream habit(options_.seed ^ 0xaaaaU, person_.number * 8 + random_.below(4));
        std::string out = random_.uniform() < 0.5 ? habit_phrase(habit) : habit_phrase(random_);
        return out += text();
    }

    void put(std::int64_t time, std::string system, std::string user, bool follow_up, std::int64_t messages) {
        Request request;
        request.time_ms = time;
        request.system = std::move(system);
        request.user = std::move(user);
        request.follow_up = follow_up;
        request.messages = messages;
        request.parameters = person_.parameters;
        request.completion_tokens = static_cast<std::int64_t>(log_normal(random_, 180, 0.8));
        out_.push_back(std::move(request));
    }

    void sessions(const std::string& system, double talk) {
        const double today = person_.rate * (is_weekend(day_) ? 0.5 : 1.2);
        const int count = poisson(random_, today);
        for (int s = 0; s < count; ++s) {
            std::int64_t time = at_hour(options_, day_, person_.hour + 3.5 * random_.normal());
            std::int64_t messages = system.empty() ? 1 : 2;
            put(time, system, opening(), false, messages);
            while (random_.uniform() < 0.62 * talk && messages < 60) {
                time += static_cast<std::int64_t>(log_normal(random_, 70, 1) * 1000);
                messages += 2;
                std::string said(follow_up_phrase(random_));
                if (random_.uniform() < 0.5) (said += ' ') += some_words(text(), 0, 25);
                put(time, system, std::move(said), true, messages);
            }
        }
    }

    // A program's own template: words of nobody else.
    std::string own_template() {
        std::string out = habit_phrase(own_);
        out += some_words(pick(library_.passages, own_), 0, 18 + own_.below(20));
        return out += "\n\nInput: ";
    }

    void own_tool() {
        const std::string head = own_template();
        const bool talks = own_.uniform() < 0.25;
        const int count = poisson(random_, person_.rate * (is_weekend(day_) ? 0.5 : 1.1));
        double hour = person_.hour + 3 * random_.normal();
        for (int i = 0; i < count; ++i) {
            if (random_.below(12) == 0) hour = person_.hour + 3 * random_.normal();
            hour += log_normal(random_, 0.01, 1.2);
            const bool follow = talks && random_.uniform() < 0.4;
            put(at_hour(options_, day_, hour), "", head + std::string(text()), follow, follow ? 3 : 1);
        }
    }

    // The tool's prompt as of this day: a new version, half of it new, every few weeks, for all at once.
    std::string app_system() {
        Group tool(options_.seed, Honest::app, person_.group);
        const auto every = static_cast<std::int32_t>(20 + tool.random.below(40));
        const std::int32_t phase = static_cast<std::int32_t>(tool.random.below(40));
        std::string out =
            "You are the assistant inside a tool. " + some_words(pick(library_.passages, tool.random), 0, 20);
        base::RandomStream version(tool.random.next_u64(),
                                   static_cast<std::uint64_t>((day_ + phase) / every));
        return (out += ' ') += some_words(pick(library_.passages, version), 0, 20);
    }

    std::string company_system() {
        Group company(options_.seed, Honest::company, person_.group);
        return "Internal assistant. Follow the house rules: " +
               some_words(pick(library_.passages, company.random), 0, 30);
    }

    void agent() {
        const bool common = own_.uniform() < 0.4;
        const std::string system = framework_prompt(
            library_, options_.seed, common ? own_.below(public_frameworks) : person_.number + 100);
        const int runs = poisson(random_, person_.rate);
        for (int run = 0; run < runs; ++run) {
            std::int64_t time = at_hour(options_, day_, 24 * random_.uniform());
            const auto steps = 5 + random_.below(50);
            const std::string goal = "Goal: " + opening();
            for (std::uint64_t i = 0; i < steps; ++i) {
                put(time, system, i == 0 ? goal : "Observation: " + std::string(text()), i > 0,
                    static_cast<std::int64_t>(2 * i + 2));
                time += 4000 + static_cast<std::int64_t>(random_.below(4000));
            }
        }
    }

    void batch() {
        if (is_weekend(day_) || random_.uniform() > 0.5) return;
        const std::string head =
            own_template() + "Which of these labels fits: " + some_words(pick(library_.entries, own_), 0, 8) +
            "? ";
        const auto count = static_cast<int>(log_normal(random_, person_.rate, 0.6));
        std::int64_t time = at_hour(options_, day_, 24 * random_.uniform() * 0.8);
        for (int i = 0; i < std::min(count, 3000); ++i) {
            put(time, "", head + std::string(text()), false, 1);
            time += 1500 + static_cast<std::int64_t>(random_.below(800));
        }
    }

    // Public templates and items: two who run the same benchmark ask the same. A new benchmark every two
    // weeks.
    void harness() {
        if (random_.uniform() > person_.rate) return;
        const auto newest = static_cast<std::uint64_t>(day_ / 14);
        const std::uint64_t known = 20 + newest;
        const std::uint64_t which = random_.uniform() < 0.4 ? known - 1 : random_.below(known);
        base::RandomStream benchmark(options_.seed ^ 0x99U, which);
        const std::string_view form = pick(library_.templates, benchmark);
        const std::uint64_t items = 100 + benchmark.below(500);
        const std::uint64_t count = std::min<std::uint64_t>(items, 40 + random_.below(300));
        std::int64_t time = at_hour(options_, day_, 24 * random_.uniform() * 0.9);
        for (std::uint64_t i = 0; i < count; ++i) {
            base::RandomStream item(options_.seed ^ 0x9900U, which * 4096 + i);
            std::string user;
            std::size_t at = 0;
            bool filled = false;
            for (std::size_t slot = form.find("{}"); slot != std::string_view::npos;
                 slot = form.find("{}", at)) {
                user += form.substr(at, slot - at);
                user += filled ? some_words(pick(library_.entries, item), 0, 8)
                               : std::string(pick(library_.entries, item));
                filled = true;
                at = slot + 2;
            }
            user += form.substr(at);
            if (!filled) (user += ' ') += pick(library_.entries, item);
            put(time, "", std::move(user), false, 1);
            time += 900 + static_cast<std::int64_t>(random_.below(900));
        }
    }

    // A sheet a week; two thirds of the classes talk about it, the others run the same notebook over texts of
    // which most are on the sheet.
    void students() {
        Group group(options_.seed, Honest::students, person_.group);
        const bool notebook = group.random.below(3) == 0;
        const std::int32_t week = day_ / 7;
        base::RandomStream sheet(group.random.next_u64(), static_cast<std::uint64_t>(week));
        const std::string task =
            "Exercise: " + habit_phrase(sheet) + some_words(pick(library_.passages, sheet), 0, 40);
        const double eager = day_ % 7 >= 2 && day_ % 7 <= 4 ? 1.0 : 0.35;
        if (random_.uniform() > person_.rate * eager) return;
        std::int64_t time = at_hour(options_, day_, person_.hour + 2 * random_.normal());
        if (notebook) {
            const auto count = 4 + random_.below(12);
            for (std::uint64_t i = 0; i < count; ++i) {
                base::RandomStream line(sheet.next_u64(), i);
                const bool own = random_.below(4) == 0;
                put(time, "", task + "\nText: " + std::string(own ? text() : pick(library_.entries, line)),
                    false, 1);
                time += 2000 + static_cast<std::int64_t>(random_.below(3000));
            }
            return;
        }
        const bool pasted = random_.uniform() < 0.5;
        std::int64_t messages = 1;
        put(time, "", pasted ? task : some_words(task, random_.below(15), 12 + random_.below(20)) + " ?",
            false, messages);
        while (random_.uniform() < 0.7 && messages < 30) {
            time += static_cast<std::int64_t>(log_normal(random_, 90, 1) * 1000);
            messages += 2;
            put(time, "", std::string(follow_up_phrase(random_)) + " " + some_words(text(), 0, 10), true,
                messages);
        }
    }

    void bureau() {
        if (is_weekend(day_) && random_.uniform() < 0.9) return;
        Group group(options_.seed, Honest::bureau, person_.group);
        const std::string head = habit_phrase(group.random) +
                                 "Keep names, numbers and the glossary of our house: " +
                                 some_words(pick(library_.passages, group.random), 0, 15) + "\n\n";
        const int count = poisson(random_, person_.rate);
        double hour = 8 + random_.uniform();
        for (int i = 0; i < count; ++i) {
            hour += log_normal(random_, 8.0 / std::max(person_.rate, 1.0), 0.7);
            if (hour > 18) break;
            const bool follow = random_.uniform() < 0.15;
            put(at_hour(options_, day_, hour), "",
                follow ? std::string(follow_up_phrase(random_))
                       : head + std::string(pick(library_.passages, random_)),
                follow, follow ? 3 : 1);
        }
    }

    void licensed() {
        Group group(options_.seed, Honest::licensed, person_.group);
        const std::uint64_t theme = 1000 + group.random.below(1000);
        const int count = poisson(random_, person_.rate);
        std::int64_t time = at_hour(options_, day_, 24 * random_.uniform() * 0.3);
        for (int i = 0; i < count; ++i) {
            put(time, "",
                scaffold_text(theme, random_.below(12), pick(library_.passages, group.random)) + "\n\n" +
                    std::string(text()),
                false, 1);
            time += 40'000 + static_cast<std::int64_t>(random_.below(40'000));
        }
    }

    const Traffic& traffic_;
    const PromptLibrary& library_;
    const TrafficOptions& options_;
    const Person& person_;
    std::int32_t day_;
    base::RandomStream random_;
    base::RandomStream own_;
    std::vector<Request> out_;
};

store::ShortHash hash_of(std::uint64_t a, std::uint64_t b) {
    store::ShortHash out{};
    if (a == 0 && b == 0) return out;
    for (std::size_t half = 0; half < 2; ++half) {
        const std::uint64_t value = mixed(a + half * 77, b + 1);
        for (std::size_t i = 0; i < 8; ++i) out[half * 8 + i] = static_cast<std::uint8_t>(value >> (8 * i));
    }
    return out;
}

}  // namespace

std::string_view honest_name(std::size_t kind) {
    constexpr std::string_view names[honest_kinds] = {"chat",
                                                      "own tool",
                                                      "app users",
                                                      "company",
                                                      "agent loop",
                                                      "batch classifier",
                                                      "evaluation harness",
                                                      "class of students",
                                                      "translation bureau",
                                                      "licensed synthetic data"};
    return names[kind];
}

std::string framework_prompt(const PromptLibrary& library, std::uint64_t seed, std::uint64_t framework) {
    base::RandomStream own(seed ^ 0x77U, framework);
    return "You are an agent that uses tools. Reply with one action. " +
           some_words(pick(library.passages, own), 0, 40);
}

store::ShortHash account_hash(std::uint64_t number) {
    return hash_of(0xacc0, number);
}

void sort_by_time(std::vector<store::Event>& events) {
    std::stable_sort(events.begin(), events.end(),
                     [](const store::Event& a, const store::Event& b) { return a.time_ms < b.time_ms; });
}

Traffic::Traffic(const PromptLibrary& library, TrafficOptions options)
    : library_(&library), options_(options) {
    key_ = options.key;
    if (key_.words == 0 && key_.grams == 0) key_ = {mixed(options.seed, 11), mixed(options.seed, 12)};
    make_people();
}

std::vector<Request> Traffic::requests_of(const Person& person, std::int32_t day) const {
    if (day < person.first_day || day > person.last_day) return {};
    std::vector<Request> out = Writer(*this, person, day).write();
    // A day ends at midnight, so that days can be put one behind the other.
    const std::int64_t end = options_.begin_ms + (day + 1) * day_ms;
    std::erase_if(out, [end](const Request& request) { return request.time_ms >= end; });
    return out;
}

store::Event Traffic::event_of(const Person& person, const Request& request) const {
    store::Event event;
    event.time_ms = request.time_ms;
    event.account = account_hash(person.number);
    event.key = hash_of(0x4e4, person.number);
    event.address = hash_of(0xadd, person.address);
    event.user_agent = hash_of(0xa6e, person.agent);
    event.payment = hash_of(0xba1, person.payment);
    event.method = "POST";
    event.route = "/v1/chat/completions";
    event.model = "teacher";
    event.status = 200;
    event.end = "finished";
    event.plan = person.plan;
    event.parameters = mixed(request.parameters, 3);
    event.messages = request.messages;
    event.logprobs = request.logprobs;
    event.logit_bias = !request.bias.empty();
    event.prompt_tokens = static_cast<std::int64_t>((request.system.size() + request.user.size()) / 4 + 4);
    event.completion_tokens = request.completion_tokens;
    event.first_byte_us = 200'000;
    event.total_us = 200'000 + request.completion_tokens * 20'000;
    guard::PromptView view;
    view.system = request.system;
    view.user = request.user;
    view.follow_up = request.follow_up;
    view.logit_bias = request.bias;
    guard::add_message(view, "system", request.system);
    guard::add_message(view, "user", request.user);
    view.conversation += static_cast<std::uint64_t>(request.messages);
    event.sketch = guard::write_sketch(guard::sketch_prompt(key_, view));
    if (options_.bodies) {
        nlohmann::json messages = nlohmann::json::array();
        if (!request.system.empty()) messages.push_back({{"role", "system"}, {"content", request.system}});
        messages.push_back({{"role", "user"}, {"content", request.user}});
        event.body = nlohmann::json{{"model", event.model}, {"messages", messages}}.dump(
            -1, ' ', false, nlohmann::json::error_handler_t::replace);
    }
    return event;
}

std::vector<store::Event> Traffic::day(std::int32_t day) const {
    std::vector<store::Event> events;
    for (const Person& person : people_) {
        for (const Request& request : requests_of(person, day)) events.push_back(event_of(person, request));
    }
    sort_by_time(events);
    return events;
}

}  // namespace retort::laboratory
