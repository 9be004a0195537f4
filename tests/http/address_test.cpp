#include "http/address.h"

#include <gtest/gtest.h>

#include "http/client.h"
#include "http/server.h"

namespace retort::http {
namespace {

TEST(Address, inside_and_outside) {
    const auto inside = [](const char* text) { return is_inside(boost::asio::ip::make_address(text)); };
    for (const char* text : {"127.0.0.1",
                             "127.255.255.254",
                             "0.0.0.0",
                             "10.1.2.3",
                             "100.64.0.1",
                             "100.127.255.255",
                             "169.254.169.254",
                             "172.16.0.1",
                             "172.31.255.255",
                             "192.168.1.1",
                             "192.0.2.1",
                             "198.18.0.1",
                             "224.0.0.1",
                             "255.255.255.255",
                             "::1",
                             "::",
                             "::127.0.0.1",
                             "::ffff:10.0.0.1",
                             "::ffff:127.0.0.1",
                             "fc00::1",
                             "fdff::1",
                             "fe80::1",
                             "febf::1",
                             "fec0::1",
                             "ff02::1",
                             "64:ff9b::10.0.0.1",
                             "64:ff9b:1::1",
                             "2002:7f00:1::1",
                             "2001::1",
                             "2001:db8::1",
                             "100::1"}) {
        EXPECT_TRUE(inside(text)) << text;
    }
    for (const char* text :
         {"1.1.1.1",        "9.255.255.255",    "11.0.0.0",        "100.63.255.255",  "100.128.0.0",
          "128.0.0.1",      "169.253.255.255",  "172.15.255.255",  "172.32.0.0",      "192.167.255.255",
          "192.169.0.0",    "198.17.255.255",   "198.20.0.0",      "223.255.255.255", "2606:4700::1",
          "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1", "2a00::1",         "2001:4860::8888"}) {
        EXPECT_FALSE(inside(text)) << text;
    }
}

TEST(Address, a_client_can_be_held_to_the_outside) {
    const auto server =
        Server::start({}, [](const ServerRequest&, const std::shared_ptr<ResponseWriter>& writer) {
            writer->send(200, {}, "inside");
        });
    ASSERT_TRUE(server);
    Client client({.proxy_from_environment = false});
    ClientRequest request;
    for (const char* host : {"127.0.0.1", "localhost"}) {
        request.url = "http://" + std::string(host) + ":" + std::to_string((*server)->port()) + "/";
        request.outside_only = false;
        const auto asked = client.send(request);
        ASSERT_TRUE(asked) << asked.error().message;
        EXPECT_TRUE(asked->inside);
        // Nor over the connection that is kept from before.
        request.outside_only = true;
        const auto refused = client.send(request);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, ErrorCode::refused);
        EXPECT_NE(refused.error().message.find(host), std::string::npos) << refused.error().message;
    }
}

}  // namespace
}  // namespace retort::http
