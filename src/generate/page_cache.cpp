#include "generate/page_cache.h"

#include <algorithm>
#include <cassert>
#include <tuple>

namespace retort::generate {

namespace {

constexpr std::size_t page_tokens = tensor::kv_page_tokens;

}  // namespace

PageCache::PageCache(std::int64_t page_count) : pages_(static_cast<std::size_t>(page_count)) {
    // Taken from the back: the first pages first, so that little memory is touched.
    for (std::int64_t i = page_count - 1; i >= 0; --i) free_.push_back(static_cast<std::int32_t>(i));
}

const std::vector<std::int32_t>& PageCache::children_of(std::int32_t page) const {
    return page < 0 ? roots_ : pages_[static_cast<std::size_t>(page)].children;
}

std::vector<std::int32_t>& PageCache::children_of(std::int32_t page) {
    return page < 0 ? roots_ : pages_[static_cast<std::size_t>(page)].children;
}

std::int32_t PageCache::find_full_child(std::int32_t parent, std::span<const std::int32_t> tokens) const {
    if (tokens.size() < page_tokens) return -1;
    for (const std::int32_t child : children_of(parent)) {
        const Page& page = pages_[static_cast<std::size_t>(child)];
        if (page.token_count == static_cast<std::int32_t>(page_tokens) &&
            std::equal(page.tokens.begin(), page.tokens.end(), tokens.begin())) {
            return child;
        }
    }
    return -1;
}

std::pair<std::int32_t, std::int64_t> PageCache::find_partial_child(
    std::int32_t parent, std::span<const std::int32_t> tokens) const {
    std::pair<std::int32_t, std::int64_t> best = {-1, 0};
    for (const std::int32_t child : children_of(parent)) {
        const Page& page = pages_[static_cast<std::size_t>(child)];
        const auto limit =
            static_cast<std::ptrdiff_t>(std::min(tokens.size(), static_cast<std::size_t>(page.token_count)));
        const auto differ =
            std::mismatch(page.tokens.begin(), page.tokens.begin() + limit, tokens.begin()).first;
        const std::int64_t common = differ - page.tokens.begin();
        if (common > best.second) best = {child, common};
    }
    return best;
}

PageCache::Match PageCache::match(std::span<const std::int32_t> tokens) {
    Match result;
    std::int32_t parent = -1;
    for (;;) {
        const auto rest = tokens.subspan(result.pages.size() * page_tokens);
        const std::int32_t child = find_full_child(parent, rest);
        if (child < 0) {
            std::tie(result.partial_page, result.partial_tokens) = find_partial_child(parent, rest);
            break;
        }
        hold(child);
        result.pages.push_back(child);
        parent = child;
    }
    return result;
}

std::int64_t PageCache::match_length(std::span<const std::int32_t> tokens) const {
    std::size_t pages = 0;
    std::int32_t parent = -1;
    for (;;) {
        const auto rest = tokens.subspan(pages * page_tokens);
        const std::int32_t child = find_full_child(parent, rest);
        if (child < 0) {
            return static_cast<std::int64_t>(pages * page_tokens) + find_partial_child(parent, rest).second;
        }
        ++pages;
        parent = child;
    }
}

std::int32_t PageCache::allocate() {
    if (free_.empty()) {
        assert(!evictable_.empty());
        evict(evictable_.begin()->second);
    }
    const std::int32_t page = free_.back();
    free_.pop_back();
    pages_[static_cast<std::size_t>(page)].state = State::own;
    ++held_;
    return page;
}

void PageCache::publish(std::vector<std::int32_t>& pages, std::size_t index,
                        std::span<const std::int32_t> tokens) {
    const std::int32_t parent = index == 0 ? -1 : pages[index - 1];
    const std::int32_t twin = find_full_child(parent, tokens);
    if (twin < 0) {
        attach(pages[index], parent, tokens);
        pages_[static_cast<std::size_t>(pages[index])].holders = 1;
        return;
    }
    Page& own = pages_[static_cast<std::size_t>(pages[index])];
    own.state = State::free;
    free_.push_back(pages[index]);
    --held_;
    hold(twin);
    pages[index] = twin;
}

void PageCache::release(std::vector<std::int32_t>& pages, std::span<const std::int32_t> tail) {
    for (std::size_t i = 0; i < pages.size(); ++i) {
        Page& page = pages_[static_cast<std::size_t>(pages[i])];
        if (page.state != State::own) continue;
        // The first own page is the tail, if there is one; reserved pages after it hold nothing.
        const std::int32_t parent = i == 0 ? -1 : pages[i - 1];
        const bool parent_known =
            parent < 0 || pages_[static_cast<std::size_t>(parent)].state == State::known;
        --held_;
        if (parent_known && !tail.empty() &&
            find_partial_child(parent, tail).second < static_cast<std::int64_t>(tail.size())) {
            attach(pages[i], parent, tail);
            page.last_used = ++clock_;
            update_evictable(pages[i]);
        } else {
            page.state = State::free;
            free_.push_back(pages[i]);
        }
        tail = {};
    }
    // From the end, so that a leaf is older than none of its ancestors.
    for (std::size_t i = pages.size(); i-- > 0;) {
        const Page& page = pages_[static_cast<std::size_t>(pages[i])];
        if (page.state == State::known && page.holders > 0) let_go(pages[i]);
    }
    pages.clear();
}

void PageCache::attach(std::int32_t page, std::int32_t parent, std::span<const std::int32_t> tokens) {
    Page& entry = pages_[static_cast<std::size_t>(page)];
    entry.state = State::known;
    entry.parent = parent;
    entry.token_count = static_cast<std::int32_t>(tokens.size());
    std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
    children_of(parent).push_back(page);
    if (parent >= 0) update_evictable(parent);
}

void PageCache::hold(std::int32_t page) {
    Page& entry = pages_[static_cast<std::size_t>(page)];
    if (entry.holders++ == 0) {
        ++held_;
        update_evictable(page);
    }
}

void PageCache::let_go(std::int32_t page) {
    Page& entry = pages_[static_cast<std::size_t>(page)];
    if (--entry.holders == 0) {
        --held_;
        entry.last_used = ++clock_;
        update_evictable(page);
    }
}

void PageCache::update_evictable(std::int32_t page) {
    const Page& entry = pages_[static_cast<std::size_t>(page)];
    if (entry.state == State::known && entry.holders == 0 && entry.children.empty()) {
        evictable_.emplace(entry.last_used, page);
    } else {
        evictable_.erase({entry.last_used, page});
    }
}

void PageCache::evict(std::int32_t page) {
    Page& entry = pages_[static_cast<std::size_t>(page)];
    evictable_.erase({entry.last_used, page});
    std::erase(children_of(entry.parent), page);
    entry.state = State::free;
    if (entry.parent >= 0) update_evictable(entry.parent);
    entry.parent = -1;
    free_.push_back(page);
}

}  // namespace retort::generate
