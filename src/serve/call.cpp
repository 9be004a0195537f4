#include "serve/call.h"

#include <sodium.h>

#include <array>
#include <span>

#include "base/hash.h"

namespace retort::serve {

std::string random_id(std::string_view prefix) {
    constexpr std::size_t width = 12;
    // A system call for many ids: they are names, not secrets.
    thread_local std::array<std::uint8_t, width * 128> pool;
    thread_local std::size_t used = pool.size();
    if (used == pool.size()) {
        randombytes_buf(pool.data(), pool.size());
        used = 0;
    }
    const std::span<const std::uint8_t> bytes(pool.data() + used, width);
    used += width;
    return std::string(prefix) + base::to_hex(bytes);
}

std::string percent_decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const std::string hex(text.substr(i + 1, 2));
        if (text[i] == '%' && hex.size() == 2 &&
            hex.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos) {
            out += static_cast<char>(std::stoi(hex, nullptr, 16));
            i += 2;
        } else {
            out += text[i];
        }
    }
    return out;
}

AnswerIdentity new_identity(const Service& service, std::string_view prefix) {
    return {random_id(prefix), base::unix_milliseconds() / 1000, service.options.model_id,
            service.options.system_fingerprint};
}

bool refuses(const Service& service, Call& call, const ServedModel& model, std::string_view model_id) {
    if (model_id != service.options.model_id) {
        call.send(api::model_not_found(model_id));
        return true;
    }
    if (model.engine->statistics().waiting >= service.options.max_waiting) {
        call.headers.set("Retry-After", "1");
        call.send(api::unavailable("Too many requests are waiting; try again later."));
        return true;
    }
    return false;
}

bool refuses_to_plant(const Service& service, Call& call, const ServedModel& model, PlantedRequest request,
                      JobRequest& job) {
    if (!service.options.planting) return false;
    if (call.ticket) {
        request.channel = call.ticket->channel();
        request.marks = call.ticket->marks();
        request.reasoning = call.ticket->reasoning();
    } else if (const std::string_view key = key_of(call.request); !key.empty()) {
        request.channel = base::sha256_hex(key).substr(0, 16);
    }
    const auto error = service.options.planting->apply(request, model, job);
    if (error) call.send(*error);
    return error.has_value();
}

void start_job(const Service& service, Call& call, const std::shared_ptr<const ServedModel>& model,
               JobRequest job, std::unique_ptr<AnswerFormat> format) {
    job.protected_works = service.options.protected_works;
    std::make_shared<GenerationJob>(model, call.writer, std::move(call.headers), std::move(format),
                                    std::move(job), service.metrics, service.active, call.ticket)
        ->start();
}

}  // namespace retort::serve
