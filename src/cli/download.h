// Fetching over HTTP what a person asked for: small answers into memory, large files to disk, resumable.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "http/headers.h"

namespace retort::cli {

struct FetchedText {
    std::string body;
    std::string content_type;
    std::string url;      // after redirects: what relative links in the body refer to
    bool inside = false;  // it came from an address inside: where a mirror of the house is, links may lead
};

// GET; a status other than 200 is an error that names the URL, the status and what to do about it. Headers of
// the request go to the first origin only, never to one that it redirects to. A server outside cannot
// redirect to an address inside, nor one with https to http.
Result<FetchedText> fetch_text(const std::string& url, const http::Headers& headers, std::size_t max_bytes);

struct DownloadRequest {
    std::string url;
    std::filesystem::path path;
    http::Headers headers;    // sent to the first host only, never to one that it redirects to
    std::string sha256;       // empty: whatever comes, unless the server states one (x-linked-etag)
    std::uint64_t bytes = 0;  // 0: not known
    bool quiet = false;
    bool outside_only = false;  // the URL is a server's word, not the user's
};

struct Downloaded {
    std::uint64_t bytes = 0;
    std::string sha256;
    std::string verified;  // "sha256", "x-linked-etag", or empty
};

// Writes into PATH.partial and renames when all of it is there and its hash is right. What an interrupted
// download left is continued with a Range request if the server says the file is still the same (ETag), or if
// the expected hash is known. A file whose hash is wrong is removed, with an error that shows both hashes.
Result<Downloaded> download(const DownloadRequest& request);

// "%20" and the like.
std::string percent_decoded(std::string_view text);
// Everything but unreserved characters and '/'.
std::string percent_encoded_path(std::string_view text);

}  // namespace retort::cli
