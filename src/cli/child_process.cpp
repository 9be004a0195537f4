#include "cli/child_process.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/interrupt.h"

extern char** environ;

namespace retort::cli {

Status run_child(const std::vector<std::string>& arguments) {
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    // Ours ignores SIGPIPE; a child would inherit that.
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    pid_t pid = 0;
    const int spawned = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (spawned != 0) {
        return fail(ErrorCode::not_found, "cannot start {}: {}", arguments[0], std::strerror(spawned));
    }

    int status = 0;
    bool told = false;
    while (::waitpid(pid, &status, WNOHANG) == 0) {
        if (base::interrupted() && !told) {
            // A terminal's Ctrl-C reached it already; a SIGTERM to us alone did not.
            ::kill(pid, SIGTERM);
            told = true;
        }
        ::usleep(20'000);
    }
    if (base::interrupted()) return fail(ErrorCode::cancelled, "interrupted");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
    if (WIFEXITED(status)) {
        return fail(ErrorCode::io, "{} ended with exit status {}", arguments[0], WEXITSTATUS(status));
    }
    return fail(ErrorCode::io, "{} was ended by signal {}", arguments[0], WTERMSIG(status));
}

}  // namespace retort::cli
