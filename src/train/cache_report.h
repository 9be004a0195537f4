// What a logit cache is like, for reports: the members that its encoding has and no others.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "data/logit_cache.h"

namespace retort::train {

struct CacheUse {
    data::CacheHeader header;
    data::CacheSummary summary;
};

nlohmann::ordered_json cache_json(const data::CacheHeader& header, const data::CacheSummary& summary);
// The same for people: label and value.
std::vector<std::pair<std::string, std::string>> cache_facts(const data::CacheHeader& header,
                                                             const data::CacheSummary& summary);

}  // namespace retort::train
