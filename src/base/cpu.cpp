#include "base/cpu.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <optional>
#include <thread>

namespace retort::base {

namespace {

std::optional<Isa> isa_from_name(std::string_view name) {
    for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx}) {
        if (isa_name(isa) == name) return isa;
    }
    return std::nullopt;
}

bool has_avx512_bf16() {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1U << 5U)) != 0;
}

// The processor has it, and the system lets this process use the tile registers: a request, once a process.
bool has_amx_bf16() {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & (1U << 22U)) == 0) return false;
#if defined(__linux__) && defined(SYS_arch_prctl)
    constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr long tile_data = 18;               // XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

}  // namespace

Isa detected_isa() {
    static const Isa isa = [] {
        __builtin_cpu_init();
        if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::scalar;
        if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
            !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) {
            return Isa::avx2;
        }
        if (!has_avx512_bf16()) return Isa::avx512;
        return has_amx_bf16() ? Isa::amx : Isa::avx512_bf16;
    }();
    return isa;
}

Isa active_isa() {
    static const Isa isa = [] {
        const char* wanted = std::getenv("RETORT_ISA");
        if (wanted == nullptr || *wanted == '\0') return detected_isa();
        const auto parsed = isa_from_name(wanted);
        return parsed && *parsed < detected_isa() ? *parsed : detected_isa();
    }();
    return isa;
}

Status check_isa_environment() {
    const char* wanted = std::getenv("RETORT_ISA");
    if (wanted == nullptr || *wanted == '\0') return {};
    const auto parsed = isa_from_name(wanted);
    if (!parsed) {
        return fail(
            ErrorCode::invalid_argument,
            "RETORT_ISA={}: not a known instruction set; use scalar, avx2, avx512, avx512_bf16 or amx",
            wanted);
    }
    if (*parsed > detected_isa()) {
        return fail(ErrorCode::invalid_argument, "RETORT_ISA={}: this machine has only {}", wanted,
                    isa_name(detected_isa()));
    }
    return {};
}

std::string_view isa_name(Isa isa) {
    switch (isa) {
        case Isa::scalar:
            return "scalar";
        case Isa::avx2:
            return "avx2";
        case Isa::avx512:
            return "avx512";
        case Isa::avx512_bf16:
            return "avx512_bf16";
        case Isa::amx:
            return "amx";
    }
    return "unknown";
}

std::string cpu_description() {
    std::ifstream info("/proc/cpuinfo");
    std::string line;
    std::string model = "unknown processor";
    while (std::getline(info, line)) {
        if (line.starts_with("model name")) {
            const auto colon = line.find(':');
            if (colon != std::string::npos && colon + 2 <= line.size()) model = line.substr(colon + 2);
            break;
        }
    }
    return fmt::format("{}, {} threads, {}", model, std::thread::hardware_concurrency(),
                       isa_name(detected_isa()));
}

}  // namespace retort::base
