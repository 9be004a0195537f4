// Campaigns after the disclosures of 2026 and after published recipes, written without sight of the detectors
// or of any result: who their keys are, when they ask and what. Knows no detector.
#pragma once

#include <cstdint>
#include <vector>

#include "laboratory/traffic.h"

namespace retort::laboratory {

// A campaign's accounts, numbered from `base` on.
std::vector<Person> unseen_people(const Traffic& traffic, const CampaignOptions& options, std::uint64_t base);
// What key number `key`, who is `person`, asks on a day; with what it asks for others, as cover.
std::vector<Request> unseen_requests(const Traffic& traffic, const CampaignOptions& options,
                                     const Person& person, std::uint32_t key, std::int32_t day);

}  // namespace retort::laboratory
