#include "base/sandbox.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/clock.h"
#include "base/interrupt.h"

namespace retort::base {

namespace {

// Exit statuses by which the child says that the sandbox, not the program, failed; the step and errno follow
// on a pipe.
struct Setup {
    char step[40];
    int error;
};

struct Pipe {
    int read_end = -1;
    int write_end = -1;
    Pipe() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) == 0) {
            read_end = ends[0];
            write_end = ends[1];
        }
    }
    ~Pipe() {
        close_read();
        close_write();
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    void close_read() {
        if (read_end >= 0) ::close(read_end);
        read_end = -1;
    }
    void close_write() {
        if (write_end >= 0) ::close(write_end);
        write_end = -1;
    }
};

// Below here until exec: only what is safe between fork and exec of a process with threads.
[[noreturn]] void give_up(int report, const char* step) {
    Setup setup{};
    std::strncpy(setup.step, step, sizeof(setup.step) - 1);
    setup.error = errno;
    (void)!::write(report, &setup, sizeof(setup));
    ::_exit(127);
}

void must(bool good, int report, const char* step) {
    if (!good) give_up(report, step);
}

bool write_text(const char* path, const char* text) {
    const int file = ::open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return false;
    const auto size = static_cast<ssize_t>(std::strlen(text));
    const bool good = ::write(file, text, static_cast<std::size_t>(size)) == size;
    ::close(file);
    return good;
}

void limit(__rlimit_resource what, std::int64_t value, int report, const char* step) {
    const rlimit both{static_cast<rlim_t>(value), static_cast<rlim_t>(value)};
    must(::setrlimit(what, &both) == 0, report, step);
}

struct Prepared {
    std::vector<char*> argv;
    std::vector<char*> environment;
    std::string user_map;
    std::string group_map;
    std::string file_options;
};

void seal_files(const Prepared& prepared, int report) {
    must(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, report, "private mounts");
    mount_attr read_only{};
    read_only.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID;
    must(::syscall(SYS_mount_setattr, -1, "/", AT_RECURSIVE, &read_only, sizeof(read_only)) == 0, report,
         "read-only file systems");
    must(::mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, prepared.file_options.c_str()) == 0, report,
         "a file system of its own");
    must(::chdir("/tmp") == 0, report, "its folder");
}

[[noreturn]] void become_program(const Prepared& prepared, const SandboxLimits& limits, int report) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    seal_files(prepared, report);
    const auto seconds = static_cast<std::int64_t>(limits.seconds) + 1;
    limit(RLIMIT_CPU, seconds, report, "limit of CPU time");
    limit(RLIMIT_AS, limits.memory_bytes, report, "limit of memory");
    limit(RLIMIT_FSIZE, limits.file_bytes, report, "limit of files");
    limit(RLIMIT_NOFILE, 64, report, "limit of open files");
    limit(RLIMIT_NPROC, limits.processes, report, "limit of processes");
    limit(RLIMIT_CORE, 0, report, "limit of core files");
    must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, report, "no new privileges");
    ::signal(SIGPIPE, SIG_DFL);
    ::execvpe(prepared.argv[0], prepared.argv.data(), prepared.environment.data());
    give_up(report, "exec");
}

[[noreturn]] void enter(const Prepared& prepared, const SandboxLimits& limits, int report) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    must(::unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC) == 0, report,
         "namespaces");
    (void)write_text("/proc/self/setgroups", "deny");
    must(write_text("/proc/self/uid_map", prepared.user_map.c_str()), report, "user map");
    must(write_text("/proc/self/gid_map", prepared.group_map.c_str()), report, "group map");
    // The first process of the new process namespace: when it ends, the kernel ends all others in it.
    const pid_t first = ::fork();
    must(first >= 0, report, "fork");
    if (first == 0) become_program(prepared, limits, report);
    ::close(STDIN_FILENO);
    ::close(STDOUT_FILENO);
    ::close(STDERR_FILENO);
    ::close(report);
    int status = 0;
    while (::waitpid(first, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status)) {
        ::signal(WTERMSIG(status), SIG_DFL);
        ::kill(::getpid(), WTERMSIG(status));
    }
    ::_exit(WEXITSTATUS(status));
}

// Feeds the program and reads what it says until both its outputs are closed, or the time is over.
bool talk(Pipe& in, Pipe& out, Pipe& err, std::string_view input, const SandboxLimits& limits,
          double deadline, SandboxOutcome& outcome) {
    ::fcntl(in.write_end, F_SETFL, O_NONBLOCK);
    std::array<char, 4096> piece{};
    const auto keep = [&](Pipe& pipe, std::string& text) {
        const ssize_t got = ::read(pipe.read_end, piece.data(), piece.size());
        if (got <= 0) {
            if (got < 0 && errno == EINTR) return;
            pipe.close_read();
            return;
        }
        const auto room = static_cast<std::size_t>(limits.output_bytes) - text.size();
        text.append(piece.data(), std::min(room, static_cast<std::size_t>(got)));
    };
    while (out.read_end >= 0 || err.read_end >= 0) {
        const double left = deadline - monotonic_seconds();
        if (left <= 0 || interrupted()) return false;
        if (input.empty()) in.close_write();
        std::array<pollfd, 3> waiting = {
            {{out.read_end, POLLIN, 0}, {err.read_end, POLLIN, 0}, {in.write_end, POLLOUT, 0}}};
        if (::poll(waiting.data(), waiting.size(), static_cast<int>(std::min(left, 0.1) * 1000) + 1) < 0)
            continue;
        if (waiting[0].revents != 0) keep(out, outcome.output);
        if (waiting[1].revents != 0) keep(err, outcome.errors);
        if (waiting[2].revents != 0) {
            const ssize_t put = ::write(in.write_end, input.data(), input.size());
            if (put > 0) input.remove_prefix(static_cast<std::size_t>(put));
            if (put < 0 && errno != EAGAIN && errno != EINTR) in.close_write();  // it does not listen
        }
    }
    return true;
}

}  // namespace

Result<SandboxOutcome> run_in_sandbox(const std::vector<std::string>& program, std::string_view input,
                                      const SandboxLimits& limits) {
    if (program.empty()) return fail(ErrorCode::invalid_argument, "sandbox: no program is named");
    Prepared prepared;
    for (const std::string& word : program) prepared.argv.push_back(const_cast<char*>(word.c_str()));
    prepared.argv.push_back(nullptr);
    std::array<std::string, 3> variables = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8"};
    for (std::string& variable : variables) prepared.environment.push_back(variable.data());
    prepared.environment.push_back(nullptr);
    prepared.user_map = fmt::format("{} {} 1", ::getuid(), ::getuid());
    prepared.group_map = fmt::format("{} {} 1", ::getgid(), ::getgid());
    prepared.file_options = fmt::format("size={},mode=0700", limits.file_bytes);

    Pipe in;
    Pipe out;
    Pipe err;
    Pipe report;
    if (in.read_end < 0 || out.read_end < 0 || err.read_end < 0 || report.read_end < 0)
        return fail(ErrorCode::io, "sandbox: no pipes: {}", std::strerror(errno));
    const double deadline = monotonic_seconds() + limits.seconds;
    const pid_t child = ::fork();
    if (child < 0) return fail(ErrorCode::io, "sandbox: no process: {}", std::strerror(errno));
    if (child == 0) {
        ::dup2(in.read_end, STDIN_FILENO);
        ::dup2(out.write_end, STDOUT_FILENO);
        ::dup2(err.write_end, STDERR_FILENO);
        // The waiting process must not hold the other end of what it waits for.
        in.close_write();
        in.close_read();
        out.close_write();
        err.close_write();
        enter(prepared, limits, report.write_end);
    }
    in.close_read();
    out.close_write();
    err.close_write();
    report.close_write();
    SandboxOutcome outcome;
    outcome.timed_out = !talk(in, out, err, input, limits, deadline, outcome);
    int status = 0;
    while (::waitpid(child, &status, WNOHANG) == 0) {
        if (outcome.timed_out || interrupted() || monotonic_seconds() > deadline) {
            outcome.timed_out = true;
            ::kill(child, SIGKILL);  // and the first process of its namespace with it, by its death signal
            while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
            }
            break;
        }
        ::usleep(1000);
    }
    if (interrupted()) return fail(ErrorCode::cancelled, "interrupted");
    Setup setup{};
    if (::read(report.read_end, &setup, sizeof(setup)) == sizeof(setup)) {
        if (std::strcmp(setup.step, "exec") == 0)
            return fail(ErrorCode::not_found, "sandbox: cannot start {}: {}", program[0],
                        std::strerror(setup.error));
        return fail(
            ErrorCode::refused,
            "sandbox: {}: {}; this machine does not allow it (user namespaces, Linux 5.12 or later), and "
            "without it {} is not run",
            setup.step, std::strerror(setup.error), program[0]);
    }
    outcome.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return outcome;
}

}  // namespace retort::base
