// A PostgreSQL of the test's own: Debian's package, a folder under /tmp, a Unix socket, no TCP. The server
// refuses to run as root, so root starts it as the user that the package made.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace retort::test {

class PostgresServer {
  public:
    PostgresServer() {
        namespace fs = std::filesystem;
        std::error_code ignored;
        for (const auto& version : fs::directory_iterator("/usr/lib/postgresql", ignored)) {
            if (fs::exists(version.path() / "bin/postgres")) bin_ = version.path() / "bin";
        }
        if (bin_.empty()) return;
        std::string pattern = "/tmp/retort-pg-XXXXXX";
        if (mkdtemp(pattern.data()) == nullptr) return;
        folder_ = pattern;
        if (::geteuid() == 0 && std::system(("chown postgres " + folder_.string()).c_str()) != 0) return;
        running_ = run("initdb -D " + data() + " -A trust -U retort --no-sync -E UTF8 --no-locale") &&
                   run("pg_ctl -D " + data() + " -w -t 30 -o \"-k " + folder_.string() +
                       " -c listen_addresses= -c fsync=off\" start") &&
                   run("createdb -h " + folder_.string() + " -U retort retort");
    }
    ~PostgresServer() {
        if (folder_.empty()) return;
        (void)run("pg_ctl -D " + data() + " -m immediate stop");
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }
    PostgresServer(const PostgresServer&) = delete;
    PostgresServer& operator=(const PostgresServer&) = delete;

    [[nodiscard]] bool installed() const { return !bin_.empty(); }
    [[nodiscard]] bool running() const { return running_; }
    [[nodiscard]] std::string url() const {
        return "postgres:///retort?user=retort&host=" + folder_.string();
    }

  private:
    [[nodiscard]] std::string data() const { return (folder_ / "data").string(); }
    [[nodiscard]] bool run(const std::string& command) const {
        const std::string whole = "cd / && " + (bin_ / command).string();
        std::string quoted = whole;
        if (::geteuid() == 0) {
            quoted = "su postgres -s /bin/sh -c '" + whole + "'";
        }
        return std::system((quoted + " >/dev/null 2>&1 </dev/null").c_str()) == 0;
    }

    std::filesystem::path bin_;
    std::filesystem::path folder_;
    bool running_ = false;
};

}  // namespace retort::test
