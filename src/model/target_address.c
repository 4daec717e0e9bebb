// SPDX-License-Identifier: MIT
#include "http/uri.h"
#include "model/codec_int.h"
#include <arpa/inet.h>
#include <sys/un.h>

struct scheme {
    struct str prefix;
    enum target_scheme scheme;
    uint16_t port;
    bool is_shown;
};
static const struct scheme schemes[] = {
    {{"http://", 7}, TARGET_HTTP, 80, false},
    {{"https://", 8}, TARGET_HTTPS, 443, true},
    {{"h2c://", 6}, TARGET_H2C, 80, true},
};

// unix:/path. The text is canonical as it stands.
static const char *parse_unix(struct str text, char *out, struct target_address *target)
{
    struct str path = str_from(text, sizeof "unix:" - 1);
    struct sockaddr_un *address = (struct sockaddr_un *)&target->sockaddr;
    if (path.len == 0 || path.p[0] != '/') {
        return "a unix socket is an absolute path, as in \"unix:/run/app.sock\"";
    }
    if (path.len >= sizeof address->sun_path) {
        return "the path of a unix socket has at most 107 bytes";
    }
    for (size_t i = 0; i < path.len; i++) {
        if ((unsigned char)path.p[i] < 0x20 || path.p[i] == 0x7f) {
            return "holds a control byte";
        }
    }
    size_t len = str_copy(out, TARGET_TEXT_MAX, text);
    target->text = str_make(out, len);
    target->host = str_from(target->text, sizeof "unix:" - 1);
    target->is_unix = true;
    address->sun_family = AF_UNIX;
    str_copy(address->sun_path, sizeof address->sun_path, path);
    target->sockaddr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    return NULL;
}

// `host` is terminated: an address without brackets, or a name.
static void fill_address(const char *host, struct target_address *target)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&target->sockaddr;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&target->sockaddr;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(target->port);
        target->sockaddr_len = sizeof *v4;
    } else if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(target->port);
        target->sockaddr_len = sizeof *v6;
    } else {
        memset(&target->sockaddr, 0, sizeof target->sockaddr);
        target->is_name = true;
    }
}

// Takes the scheme off the front, and with it a '/' at the end; none is "http://". NULL: unknown.
static const struct scheme *take_scheme(struct str *text)
{
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (!str_starts_case(*text, schemes[i].prefix)) {
            continue;
        }
        *text = str_from(*text, schemes[i].prefix.len);
        if (text->len > 0 && text->p[text->len - 1] == '/') {
            text->len--;
        }
        return &schemes[i];
    }
    return str_find(*text, STR("://")) == SIZE_MAX ? &schemes[0] : NULL;
}

// Takes ":port" off the end.
static const char *take_port(struct str *text, uint16_t *port)
{
    size_t colon = str_rfind_char(*text, ':');
    size_t bracket = str_rfind_char(*text, ']');
    if (colon == SIZE_MAX || (bracket != SIZE_MAX && bracket > colon)) {
        return NULL;
    }
    if (bracket == SIZE_MAX && str_find_char(*text, ':') != colon) {
        return "an IPv6 address is written in brackets, as in \"[::1]:8080\"";
    }
    struct str digits = str_from(*text, colon + 1);
    uint64_t value;
    if (digits.len > 5 || str_to_u64(digits, &value) != 0 || value == 0 || value > UINT16_MAX) {
        return "the port must be 1 to 65535";
    }
    *port = (uint16_t)value;
    *text = str_sub(*text, 0, colon);
    return NULL;
}

static const char *parse_host_port(struct str text, const struct scheme *scheme, char *to,
                                   struct target_address *target)
{
    target->scheme = scheme->scheme;
    target->port = scheme->port;
    const char *wrong = take_port(&text, &target->port);
    if (wrong != NULL) {
        return wrong;
    }
    size_t prefix = scheme->is_shown ? scheme->prefix.len : 0;
    memcpy(to, scheme->prefix.p, prefix);
    char *out = to + prefix;
    size_t len;
    wrong = host_canonicalise(text, false, out, &len);
    if (wrong != NULL) {
        return text.len == 0 ? "the host is missing" : wrong;
    }
    if (prefix == 0 && str_eq(str_make(out, len), STR("unix"))) {
        return "a host cannot be called \"unix\": \"unix:80\" would be a socket";
    }
    size_t skip = 0;
    if (out[0] == '[') {
        skip = 1;
        out[len - 1] = '\0';
    }
    fill_address(out + skip, target);
    if (skip == 1) {
        out[len - 1] = ']';
    }
    size_t port_len =
        (size_t)snprintf(out + len, TARGET_TEXT_MAX - prefix - len, ":%u", target->port);
    target->text = str_make(to, prefix + len + port_len);
    target->host = str_make(out + skip, len - 2 * skip);
    return NULL;
}

_Static_assert(TARGET_TEXT_MAX >= sizeof "https://" - 1 + VALUE_HOST_MAX + sizeof ":65535",
               "host_canonicalise writes into it");

const char *target_parse(struct str text, char *out, struct target_address *target)
{
    memset(target, 0, sizeof *target);
    if (memchr(text.len == 0 ? "" : text.p, '\0', text.len) != NULL) {
        return "holds a NUL byte";
    }
    if (str_starts(text, STR("unix:"))) {
        return parse_unix(text, out, target);
    }
    const struct scheme *scheme = take_scheme(&text);
    if (scheme == NULL) {
        return "has an unknown scheme; there are http://, https:// and h2c://";
    }
    if (str_starts(text, STR("unix:"))) {
        return "a unix socket has no scheme: \"unix:/run/app.sock\"";
    }
    if (str_find_char(text, '@') != SIZE_MAX) {
        return "a target has no user or password";
    }
    if (str_find_char(text, '/') != SIZE_MAX || str_find_char(text, '?') != SIZE_MAX) {
        return "a target has no path or query; a route's target_path says where requests go";
    }
    return parse_host_port(text, scheme, out, target);
}

void target_rebase(struct target_address *target, const char *to)
{
    target->host.p = to + (target->host.p - target->text.p);
    target->text.p = to;
}

int target_address_parse(struct str text, struct target_address *out, char **memory,
                         const char *pointer, struct problems *problems)
{
    char buffer[TARGET_TEXT_MAX];
    *memory = NULL;
    const char *wrong = target_parse(text, buffer, out);
    if (wrong != NULL) {
        memset(out, 0, sizeof *out);
        return problems_add(problems, ERR_INVALID, pointer, "%s", wrong);
    }
    char *copy = str_dup(out->text);
    if (copy == NULL) {
        return problems_add(problems, ERR_MEMORY, pointer, "%s", err_text(ERR_MEMORY));
    }
    target_rebase(out, copy);
    *memory = copy;
    return 0;
}
