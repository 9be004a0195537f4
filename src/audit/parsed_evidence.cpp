#include "audit/parsed_evidence.h"

#include <cmath>
#include <set>

#include "stats/exact_tests.h"

namespace retort::audit {

namespace {

Result<const Json*> array_of(const Json& object, const char* name) {
    const Json* found = formats::json_find(object, name);
    if (found == nullptr || !found->is_array()) {
        return fail(ErrorCode::format, "evidence: no array \"{}\"", name);
    }
    return found;
}

Result<double> finite(const Json& object, const char* name) {
    RETORT_TRY(const double value, formats::json_number(object, name));
    if (!std::isfinite(value)) return fail(ErrorCode::format, "evidence: {} is no finite number", name);
    return value;
}

}  // namespace

Result<Keyed> parse_keyed(const Json& evidence) {
    const Json* scheme = formats::json_find(evidence, "scheme");
    if (scheme == nullptr) return fail(ErrorCode::format, "evidence: no scheme");
    Keyed out;
    RETORT_TRY(out.scheme, parse_scheme(*scheme));
    RETORT_TRY(const std::string key, formats::json_string(evidence, "subkey"));
    RETORT_TRY(out.key, watermark::subkey_from_hex(key));
    return out;
}

Result<std::vector<Context>> parse_contexts(const Json& evidence) {
    RETORT_TRY(const Json* list, array_of(evidence, "contexts"));
    std::vector<Context> out;
    for (const Json& item : *list) {
        Context context;
        RETORT_TRY(const Json* window, array_of(item, "window"));
        RETORT_TRY(const Json* tokens, array_of(item, "tokens"));
        RETORT_TRY(const Json* weights, array_of(item, "weights"));
        for (const Json& token : *window) {
            if (!token.is_number_integer())
                return fail(ErrorCode::format, "evidence: a window's token is no number");
            context.window.push_back(token.get<std::int32_t>());
        }
        if (tokens->size() != weights->size())
            return fail(ErrorCode::format, "evidence: tokens without weights");
        for (std::size_t i = 0; i < tokens->size(); ++i) {
            if (!(*tokens)[i].is_number_integer() || !(*weights)[i].is_number_integer() ||
                (*weights)[i].get<std::int64_t>() < 1 || (*weights)[i].get<std::int64_t>() > mass_grid) {
                return fail(ErrorCode::format, "evidence: a weight is not in 1 to {}", mass_grid);
            }
            context.tokens.push_back((*tokens)[i].get<std::int32_t>());
            context.weights.push_back((*weights)[i].get<std::int64_t>());
        }
        out.push_back(std::move(context));
    }
    return out;
}

std::int64_t green_mass(std::span<const Context> contexts, const watermark::Subkey& key, double gamma) {
    std::int64_t sum = 0;
    for (const Context& context : contexts) {
        for (std::size_t i = 0; i < context.tokens.size(); ++i) {
            if (watermark::is_green(watermark::pair_hash(key, context.window, context.tokens[i]), gamma)) {
                sum += context.weights[i];
            }
        }
    }
    return sum;
}

Result<std::vector<CanaryScores>> parse_canary_scores(const Json& evidence) {
    RETORT_TRY(const Json* list, array_of(evidence, "canaries"));
    std::vector<CanaryScores> out;
    std::set<std::string> ids;
    for (const Json& item : *list) {
        CanaryScores canary;
        RETORT_TRY(const std::string id, formats::json_string(item, "id"));
        if (!ids.insert(id).second) return fail(ErrorCode::refused, "evidence: {} stands there twice", id);
        RETORT_TRY(const Json* scores, array_of(item, "scores"));
        RETORT_TRY(const std::int64_t planted, formats::json_integer(item, "planted"));
        for (const Json& score : *scores) {
            if (!score.is_number()) return fail(ErrorCode::format, "evidence: a canary's score is no number");
            canary.scores.push_back(score.get<double>());
        }
        if (canary.scores.size() < 2 || planted < 0 ||
            planted >= static_cast<std::int64_t>(canary.scores.size())) {
            return fail(ErrorCode::format, "evidence: canary {} has no such candidate", id);
        }
        canary.planted = static_cast<std::size_t>(planted);
        out.push_back(std::move(canary));
    }
    return out;
}

double rank_of(const CanaryScores& canary, std::size_t which) {
    std::vector<double> others;
    for (std::size_t i = 0; i < canary.scores.size(); ++i) {
        if (i != which) others.push_back(canary.scores[i]);
    }
    return stats::rank_p(canary.scores[which], others);
}

Result<std::vector<double>> twin_differences(const Json& evidence) {
    RETORT_TRY(const Json* pairs, array_of(evidence, "pairs"));
    std::vector<double> out;
    for (const Json& pair : *pairs) {
        RETORT_TRY(double served, finite(pair, "served"));
        RETORT_TRY(double withheld, finite(pair, "withheld"));
        if (pair.contains("served_reference")) {
            RETORT_TRY(const double served_reference, finite(pair, "served_reference"));
            RETORT_TRY(const double withheld_reference, finite(pair, "withheld_reference"));
            served -= served_reference;
            withheld -= withheld_reference;
        }
        if (pair.contains("served_bytes")) {
            RETORT_TRY(const double served_bytes, finite(pair, "served_bytes"));
            RETORT_TRY(const double withheld_bytes, finite(pair, "withheld_bytes"));
            if (served_bytes < 1 || withheld_bytes < 1)
                return fail(ErrorCode::format, "evidence: an empty twin");
            served /= served_bytes;
            withheld /= withheld_bytes;
        }
        out.push_back(served - withheld);
    }
    return out;
}

Result<watermark::Scheme> parse_scheme(const Json& json) {
    watermark::Scheme scheme;
    RETORT_TRY(const std::string kind, formats::json_string(json, "scheme"));
    RETORT_TRY(scheme.kind, watermark::kind_from_name(kind));
    RETORT_TRY(scheme.window, formats::json_integer(json, "window"));
    RETORT_TRY(scheme.gamma, formats::json_number(json, "gamma", scheme.gamma));
    RETORT_TRY(scheme.delta, formats::json_number(json, "delta", scheme.delta));
    RETORT_TRY(scheme.layers, formats::json_integer(json, "layers", scheme.layers));
    RETORT_CHECK(watermark::check_scheme(scheme));
    return scheme;
}

Result<std::vector<watermark::Pair>> parse_pairs(const Json& evidence) {
    RETORT_TRY(const Json* list, array_of(evidence, "pairs"));
    std::vector<watermark::Pair> out;
    out.reserve(list->size());
    for (const Json& item : *list) {
        if (!item.is_array()) return fail(ErrorCode::format, "evidence: a pair is no array");
        watermark::Pair pair;
        for (const Json& token : item) {
            if (!token.is_number_integer())
                return fail(ErrorCode::format, "evidence: a pair's token is no number");
            pair.push_back(token.get<std::int32_t>());
        }
        out.push_back(std::move(pair));
    }
    return out;
}

}  // namespace retort::audit
