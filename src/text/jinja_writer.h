// Text that grows no further than a limit, which is an error when it is taken. Internal to the template
// language.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace retort::text::jinja {

class Writer {
  public:
    explicit Writer(std::size_t limit) : limit_(limit) {}
    void put(std::string_view text) {
        if (out_.size() + text.size() > limit_) {
            full_ = true;
        } else {
            out_.append(text);
        }
    }
    void put(char c) { put(std::string_view(&c, 1)); }
    [[nodiscard]] bool full() const { return full_; }
    Result<std::string> take() {
        if (full_) return fail(ErrorCode::refused, "a text of more than {} bytes", limit_);
        return std::move(out_);
    }

  private:
    std::string out_;
    std::size_t limit_;
    bool full_ = false;
};

}  // namespace retort::text::jinja
