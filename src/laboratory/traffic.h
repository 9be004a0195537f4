// Labelled traffic: honest users, the honest who look like extraction, and attackers, as the events that a
// server would have written. Who somebody is, and what they ask on a day, is a pure function of the seed, so
// that days can be made in any order and a campaign can be laid over honest days made before. Knows no
// detector; the adaptive attacker knows what docs/guard.md says.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "guard/sketch.h"
#include "laboratory/prompts.h"
#include "store/event_log.h"

namespace retort::laboratory {

enum class Honest : std::uint8_t {
    chat,      // a person with questions, in sessions with follow-ups
    own_tool,  // a developer's program with a template of its own
    app,       // a person who uses a tool that others use too: one system prompt, updated now and then
    company,   // staff that share a payment, an address and an internal tool
    agent,     // an agent loop: many steps at regular pace
    batch,     // a batch classifier: one template, thousands of texts
    harness,   // an evaluation harness: public templates over public items
    students,  // a class: new accounts, one assignment, one campus
    bureau,    // a translation bureau: one payment, one template, much text
    licensed,  // a customer whose plan allows training on outputs
    count
};
inline constexpr std::size_t honest_kinds = static_cast<std::size_t>(Honest::count);
std::string_view honest_name(std::size_t kind);

enum class Attack : std::uint8_t {
    scaffold,    // one template in a few variants
    slow,        // the same, six requests a day and key, in office hours
    paraphrase,  // each request words the template anew
    active,      // small changes of seeds, as PRADA's attackers make (Juuti et al. 2019)
    mimic,       // an honest mixture of prompts, sessions and parameters, no template
    adaptive,    // aged accounts, paraphrases, cover traffic, honest hours, nothing shared
    logits,      // bias maps on few prompts, logprobs where they are given
    // After published ways of making training data; written when the detectors were frozen.
    persona,     // one task, for somebody described anew each time (Chan et al. 2024)
    evolved,     // seeds rewritten harder, generation by generation (Xu et al. 2023)
    curriculum,  // a tree of subjects asked leaf by leaf, in sessions, a card a key (Li et al. 2024)
    translated,  // a benchmark's items in other words, as after a translation there and back
    dialogue,    // conversations that make a lesson of each answer, in sessions, a card a key
    // After the disclosures of 2026 and further recipes; written without sight of the detectors.
    rubric,          // candidates graded by rubrics, a reward model's work; keys in step, few cards
    hydra,           // reasoning behind completed answers, among a proxy's customers; a card a key
    bootstrap,       // more tasks in the manner of sampled ones (Wang et al. 2022); few cards
    backtranslated,  // instructions out of documents (Li et al. 2023); a card and a wording a key
    resampled,       // each question sixteen times, over all keys (Guha et al. 2025); few addresses
    agentic,         // trajectories in public agent frameworks, each goal three times; a card a key
    count
};
inline constexpr std::size_t attacks = static_cast<std::size_t>(Attack::count);
std::string_view attack_name(Attack family);

// Whose results were seen while the detectors were made; of the others none was.
bool is_design_family(Attack family);
// Written by somebody who had not seen the detectors either.
bool is_unseen(Attack family);

struct Request {
    std::int64_t time_ms = 0;
    std::string system;
    std::string user;
    std::int64_t messages = 1;
    bool follow_up = false;
    std::uint64_t parameters = 0;
    bool logprobs = false;
    std::string bias;
    std::int64_t completion_tokens = 200;
};

struct Person {
    std::uint64_t number = 0;  // names the account
    std::uint32_t group = 0;   // tool, company, class, bureau …; of its kind
    Honest kind = Honest::chat;
    std::int32_t first_day = 0;
    std::int32_t last_day = 1 << 20;
    double rate = 1;   // sessions, runs or requests a day, by kind
    double hour = 14;  // the middle of its day
    std::uint64_t parameters = 0;
    std::uint64_t agent = 0;  // client program
    std::uint64_t address = 0;
    std::uint64_t payment = 0;
    std::string plan;
};

struct TrafficOptions {
    std::uint64_t seed = 1;
    std::size_t people = 10'500;
    std::int32_t days = 98;
    bool bodies = false;                                          // events carry them
    guard::SketchKey key{};                                       // of a store's secret; {0, 0}: of the seed
    std::int64_t begin_ms = std::int64_t{2900} * 7 * 86'400'000;  // of a week
};

class Traffic {
  public:
    Traffic(const PromptLibrary& library, TrafficOptions options);
    [[nodiscard]] const std::vector<Person>& people() const { return people_; }
    [[nodiscard]] const TrafficOptions& options() const { return options_; }
    // All honest events of a day, by time.
    [[nodiscard]] std::vector<store::Event> day(std::int32_t day) const;
    [[nodiscard]] std::vector<Request> requests_of(const Person& person, std::int32_t day) const;
    [[nodiscard]] store::Event event_of(const Person& person, const Request& request) const;
    [[nodiscard]] const PromptLibrary& library() const { return *library_; }
    [[nodiscard]] const guard::SketchKey& key() const { return key_; }

  private:
    void make_people();
    const PromptLibrary* library_;
    TrafficOptions options_;
    guard::SketchKey key_;
    std::vector<Person> people_;
};

struct CampaignOptions {
    Attack family = Attack::scaffold;
    std::uint32_t keys = 50;
    std::uint64_t number = 0;  // another number, another campaign
    std::int32_t first_day = 63;
    double planned = 650;  // requests a key, in all; K = 1: in all 20,000
    double per_day = 20;   // and key
};

// A campaign's accounts and requests, as honest ones are.
class Campaign {
  public:
    Campaign(const Traffic& traffic, CampaignOptions options);
    [[nodiscard]] const CampaignOptions& options() const { return options_; }
    [[nodiscard]] const std::vector<Person>& people() const { return people_; }
    [[nodiscard]] double planned() const { return options_.planned * options_.keys; }
    // Only what serves the attack counts as its volume, not its cover; both are in the events.
    [[nodiscard]] std::vector<store::Event> day(std::int32_t day) const;
    [[nodiscard]] bool is_cover(std::int32_t day) const { return day < options_.first_day; }

  private:
    [[nodiscard]] std::string prompt(std::uint32_t key, std::int32_t day, std::uint32_t index,
                                     bool& follow_up) const;
    const Traffic* traffic_;
    CampaignOptions options_;
    std::vector<Person> people_;
};

// The system prompt of an agent framework; the first few are public, and many use them.
inline constexpr std::uint64_t public_frameworks = 5;
std::string framework_prompt(const PromptLibrary& library, std::uint64_t seed, std::uint64_t framework);

store::ShortHash account_hash(std::uint64_t number);
void sort_by_time(std::vector<store::Event>& events);

}  // namespace retort::laboratory
