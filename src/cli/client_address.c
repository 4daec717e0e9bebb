// SPDX-License-Identifier: MIT
// Where the admin API is, and the paths of its calls.
#include "cli/client.h"
#include <arpa/inet.h>

bool client_is_https(const char *configured)
{
    return str_starts_case(str_from_c(configured), STR("https://"));
}

void client_address(const char *configured, char *to, size_t size)
{
    struct str text = str_from_c(configured);
    struct str host;
    struct str port;
    if (client_is_https(configured)) {
        text = str_from(text, 8);
    } else if (str_starts_case(text, STR("http://"))) {
        text = str_from(text, 7);
    }
    if (!str_starts(text, STR("unix:")) && str_ends(text, STR("/"))) {
        text.len--; // as it is copied from a browser
    }
    if (str_split(text, ':', &host, &port) && host.len == 0) {
        snprintf(to, size, "127.0.0.1:%.*s", STR_ARG(port));
    } else if (str_eq(host, STR("0.0.0.0"))) {
        snprintf(to, size, "127.0.0.1:%.*s", STR_ARG(port));
    } else if (str_starts(text, STR("[::]:"))) {
        snprintf(to, size, "[::1]:%.*s", STR_ARG(str_from(text, 5)));
    } else {
        str_copy(to, size, text);
    }
}

// Nothing, or ":PORT": with anything else ("localhost:1@elsewhere") the URL would name another host.
static bool is_port(struct str text)
{
    for (size_t i = 1; i < text.len; i++) {
        if (!ascii_is_digit(text.p[i])) {
            return false;
        }
    }
    return text.len == 0 || text.p[0] == ':';
}

bool client_is_local(const char *address)
{
    struct str text = str_from_c(address);
    if (str_starts(text, STR("unix:"))) {
        return true;
    }
    if (str_starts(text, STR("[::1]"))) {
        return is_port(str_from(text, 5));
    }
    size_t colon = str_find_char(text, ':');
    struct str host = colon == SIZE_MAX ? text : str_sub(text, 0, colon);
    if (!is_port(str_from(text, host.len))) {
        return false;
    }
    char literal[INET_ADDRSTRLEN];
    struct in_addr in4;
    // A literal of 127.0.0.0/8: "127.elsewhere.example" is a name.
    return str_eq_case(host, STR("localhost")) ||
           (host.len < sizeof literal && str_copy(literal, sizeof literal, host) == host.len &&
            inet_pton(AF_INET, literal, &in4) == 1 && ntohl(in4.s_addr) >> 24 == 127);
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static void put_escaped(struct buf *path, struct str text, bool keep_slash)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];
        if (is_unreserved(c) || (c == '/' && keep_slash)) {
            buf_put_char(path, c);
        } else {
            buf_printf(path, "%%%02X", (unsigned)(unsigned char)c);
        }
    }
}

void path_put_key(struct buf *path, struct str key)
{
    put_escaped(path, key, true);
}

void path_put_segment(struct buf *path, struct str segment)
{
    put_escaped(path, segment, false);
}
