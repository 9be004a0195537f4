#include "serve/planting.h"

#include <sodium.h>

#include <algorithm>
#include <limits>

#include "base/clock.h"
#include "base/log.h"
#include "serve/generation_job.h"
#include "serve/kept_answer.h"
#include "watermark/mark.h"

namespace retort::serve {

namespace {

std::uint64_t random_number() {
    std::uint64_t number = 0;
    randombytes_buf(&number, sizeof(number));
    return number;
}

// An answer that is settled: its tokens one after another, then the end of the turn.
void force_answer(std::string_view answer, const ServedModel& model, generate::TextRequest& request) {
    text::EncodeOptions plain;
    plain.add_special_tokens = false;
    plain.parse_special = false;
    std::vector<std::int32_t> tokens = model.tokenizer.encode(answer, plain);
    if (model.end_of_turn_tokens.empty()) {
        request.tokens.max_tokens =
            std::min(request.tokens.max_tokens, static_cast<std::int64_t>(tokens.size()));
    } else {
        tokens.push_back(model.end_of_turn_tokens.front());
    }
    generate::SamplingHook hook;
    hook.change_logits = [tokens = std::move(tokens), start = request.tokens.prompt.size()](
                             std::span<const std::int32_t> context, std::span<float> logits) {
        const auto wanted =
            static_cast<std::size_t>(tokens[std::min(context.size() - start, tokens.size() - 1)]);
        std::fill(logits.begin(), logits.end(), -std::numeric_limits<float>::infinity());
        logits[wanted] = 0;
    };
    request.tokens.hook = std::move(hook);
    request.tokens.sampling = {};
    request.split_reasoning = false;
}

}  // namespace

void add_mark(const escrow::Plant& plant, const std::string& channel, generate::SamplingHook& hook) {
    const watermark::Scheme& scheme = *plant.settings.scheme;
    const auto marker = std::make_shared<watermark::Marker>(
        scheme, plant.master_key->subkey(scheme.kind, channel), random_number());
    if (marker->changes_logits()) {
        hook.change_logits = [marker, before = std::move(hook.change_logits)](
                                 std::span<const std::int32_t> context, std::span<float> logits) {
            if (before) before(context, logits);
            marker->change_logits(context, logits);
        };
        return;
    }
    hook.choose = [marker, tokens = std::vector<std::int32_t>(), probabilities = std::vector<float>()](
                      std::span<const std::int32_t> context,
                      std::span<const generate::TokenProbability> candidates) mutable {
        tokens.clear();
        probabilities.clear();
        for (const generate::TokenProbability& candidate : candidates) {
            tokens.push_back(candidate.token);
            probabilities.push_back(candidate.probability);
        }
        return marker->choose(context, tokens, probabilities);
    };
}

Result<std::shared_ptr<Planting>> Planting::open(const std::filesystem::path& folder, bool marks_everybody) {
    std::shared_ptr<Planting> out(new Planting());
    out->self_ = out;
    out->marks_everybody_ = marks_everybody;
    RETORT_TRY(out->plant_, escrow::read_plant(folder));
    RETORT_TRY(out->vault_, escrow::Vault::open(out->plant_.vault_folder(), out->plant_.escrow_key));
    out->next_coin_ = out->vault_->next_index();
    out->day_ = base::utc_now().substr(0, 10);
    return out;
}

// Of requests that two different answers can be drawn for, and whose one answer is all that the client sees.
bool Planting::draws_twin(const PlantedRequest& request, const JobRequest& job, escrow::Record& record) {
    const double share =
        std::min(1.0, plant_.settings.twin_share *
                          static_cast<double>(std::max<std::int64_t>(request.marks.twins, 1)));
    const generate::Request& tokens = job.choices.front().tokens;
    const bool eligible = share > 0 && job.choices.size() == 1 && tokens.max_tokens > 0 &&
                          tokens.sampling.temperature > 0 && job.tools == ToolStyle::none && !job.logprobs &&
                          job.echo.empty() &&
                          !(record.scheme == watermark::kind_name(watermark::SchemeKind::gumbel));
    if (!eligible) return false;
    record.index = next_coin_.fetch_add(1);
    const escrow::Coin coin = plant_.coins.at(record.index);
    if (coin.selection >= share) return false;
    record.kind = escrow::RecordKind::twin;
    record.served = coin.served;
    return true;
}

std::optional<api::ApiError> Planting::apply(const PlantedRequest& request, const ServedModel& model,
                                             JobRequest& job) {
    const bool marks = plant_.settings.scheme.has_value() && (marks_everybody_ || request.marks.watermark);
    const bool asks_logprobs =
        job.logprobs || std::any_of(job.choices.begin(), job.choices.end(),
                                    [](const auto& c) { return c.tokens.prompt_logprobs; });
    if (marks && asks_logprobs) {
        return api::unsupported_parameter("logprobs", "This server's answers come without logprobs.");
    }
    escrow::Record record;
    record.kind = escrow::RecordKind::served;
    record.nonce = escrow::random_nonce();
    record.time_ms = base::unix_milliseconds();
    record.channel = request.channel;
    record.messages = request.messages;
    record.prompt = request.prompt;
    const auto self = self_.lock();
    const bool keeps_reasoning = request.reasoning == ReasoningAccess::full;
    const escrow::Canary* canary =
        request.last_question && job.choices.size() == 1 && job.tools == ToolStyle::none
            ? escrow::find_canary(plant_.canaries, *request.last_question)
            : nullptr;
    if (canary != nullptr) {
        force_answer(canary->planted_answer(), model, job.choices.front());
        record.kind = escrow::RecordKind::canary;
        record.canary = canary->id;
        job.kept = {std::make_shared<KeptAnswer>(self, std::move(record), keeps_reasoning)};
        return std::nullopt;
    }
    if (marks) {
        record.scheme = watermark::kind_name(plant_.settings.scheme->kind);
        for (generate::TextRequest& choice : job.choices)
            add_mark(plant_, request.channel, choice.tokens.hook);
    }
    if (draws_twin(request, job, record)) {
        // Both drawn alike, each from numbers of its own: a seed of the client's would make them the same.
        generate::TextRequest withheld = job.choices.front();
        job.choices.front().tokens.sampling.seed = random_number();
        withheld.tokens.sampling.seed = random_number();
        if (marks) {
            // Its own marker: one's state is one answer's.
            withheld.tokens.hook = job.unmarked_hook ? job.unmarked_hook() : generate::SamplingHook{};
            add_mark(plant_, request.channel, withheld.tokens.hook);
        } else if (job.unmarked_hook) {
            withheld.tokens.hook = job.unmarked_hook();
        }
        auto kept = std::make_shared<KeptAnswer>(self, std::move(record), keeps_reasoning);
        kept->set_withheld(std::move(withheld));
        job.kept = {std::move(kept)};
        return std::nullopt;
    }
    if (!marks || !plant_.settings.log_served || job.tools != ToolStyle::none) return std::nullopt;
    for (std::size_t i = 0; i < job.choices.size(); ++i) {
        record.nonce = escrow::random_nonce();
        job.kept.push_back(std::make_shared<KeptAnswer>(self, record, keeps_reasoning));
    }
    return std::nullopt;
}

void Planting::keep(const escrow::Record& record) {
    const Status added = vault_->add(record);
    if (added) {
        ++kept_;
    } else if (lost_.fetch_add(1) % 1000 == 0) {
        spdlog::error("escrow: {}: {} answers could not be kept so far", added.error().message, lost_.load());
    }
}

void Planting::tick() {
    const std::string today = base::utc_now().substr(0, 10);
    const std::lock_guard lock(day_mutex_);
    if (today == day_) return;
    day_ = today;
    if (const Status closed = vault_->close(); !closed) {
        spdlog::error("escrow: the day's root was not written: {}", closed.error().message);
    }
}

std::string Planting::metrics() const {
    return fmt::format(
        "# HELP retort:escrow_records_total Answers kept in the escrow.\n"
        "# TYPE retort:escrow_records_total counter\nretort:escrow_records_total {}\n"
        "# HELP retort:escrow_lost_total Answers that could not be kept.\n"
        "# TYPE retort:escrow_lost_total counter\nretort:escrow_lost_total {}\n",
        kept_.load(), lost_.load());
}

}  // namespace retort::serve
