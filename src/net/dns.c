// SPDX-License-Identifier: MIT
#include "net/dns_int.h"
#include "net/address.h"
#include <ares.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>

enum {
    SOCKET_MAX = 64, // c-ares has one for UDP and one for TCP of each server
    TRY_COUNT = 2,   // of each server; whoever asks comes again anyway
    LOOK_MS = 5000,  // between two looks at resolv.conf
    SERVER_LEN = 64, // "[address]:port,"
    DNS_PORT = 53,
};

struct dns_socket {
    struct loop_io io;
    struct dns *dns;
};

// What a file is known by.
struct file_mark {
    struct timespec changed;
    off_t size;
    ino_t inode;
};

struct dns {
    struct loop *loop;
    ares_channel channel;
    struct loop_timer timer;
    struct loop_timer look; // set: not yet time for the next one
    struct file_mark mark;
    const struct dns_question *asking; // dns_ask() has not yet returned: no server was needed
    bool is_closing; // a channel ends: what it still says may be half of an answer
    const char *resolv_conf;
    char *servers;
    unsigned timeout_ms;
    unsigned address_max;
    struct dns_socket sockets[SOCKET_MAX];
};

// ---- the configured servers ----

// "53" of "…:53". False: no port.
static bool read_port(struct str text, unsigned *port)
{
    uint64_t value;
    if (str_to_u64(text, &value) != 0 || value == 0 || value > 65535) {
        return false;
    }
    *port = (unsigned)value;
    return true;
}

static bool read_server(struct str text, struct str *host, unsigned *port)
{
    *port = DNS_PORT;
    *host = text;
    struct str rest = STR_NULL;
    size_t end = str_find_char(text, ']');
    if (text.len > 0 && text.p[0] == '[') {
        if (end == SIZE_MAX) {
            return false;
        }
        *host = str_sub(text, 1, end - 1);
        rest = str_from(text, end + 1);
    } else if (str_find_char(text, ':') == str_rfind_char(text, ':')) { // not IPv6
        size_t colon = str_find_char(text, ':');
        *host = str_sub(text, 0, colon);
        rest = str_from(text, colon);
    }
    return rest.len == 0 || (rest.p[0] == ':' && read_port(str_from(rest, 1), port));
}

int dns_server_list(const char *const *servers, unsigned count, char **list)
{
    size_t size = (size_t)count * SERVER_LEN + 1;
    char *text = calloc(1, size);
    if (text == NULL) {
        return ERR_MEMORY;
    }
    size_t len = 0;
    for (unsigned i = 0; i < count; i++) {
        struct str host;
        unsigned port;
        struct in6_addr in6;
        if (!read_server(str_from_c(servers[i]), &host, &port) || net_parse_in6(host, &in6) != 0) {
            free(text);
            return ERR_INVALID;
        }
        bool is_in6 = memchr(host.p, ':', host.len) != NULL;
        len += (size_t)snprintf(text + len, size - len, "%s%s%.*s%s:%u", i > 0 ? "," : "",
                                is_in6 ? "[" : "", STR_ARG(host), is_in6 ? "]" : "", port);
    }
    *list = text;
    return 0;
}

// ---- sockets and timeouts in the loop ----

static void arm_timer(struct dns *dns)
{
    struct timeval storage;
    struct timeval *left = ares_timeout(dns->channel, NULL, &storage);
    if (left == NULL) {
        loop_timer_cancel(dns->loop, &dns->timer);
        return;
    }
    uint64_t ms = (uint64_t)left->tv_sec * 1000 + ((uint64_t)left->tv_usec + 999) / 1000;
    loop_timer_set(dns->loop, &dns->timer, ms);
}

static void on_timer(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    struct dns *dns = CONTAINER_OF(timer, struct dns, timer);
    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm_timer(dns);
}

static void on_look(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    (void)timer; // that it is not set any more is all
}

static void on_event(struct loop *loop, struct loop_io *io, uint32_t events)
{
    (void)loop;
    struct dns *dns = CONTAINER_OF(io, struct dns_socket, io)->dns;
    int fd = io->fd; // c-ares may close it meanwhile
    bool is_readable = (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0;
    ares_process_fd(dns->channel, is_readable ? fd : ARES_SOCKET_BAD,
                    (events & EPOLLOUT) ? fd : ARES_SOCKET_BAD);
    arm_timer(dns);
}

static struct dns_socket *find_socket(struct dns *dns, int fd)
{
    for (unsigned i = 0; i < SOCKET_MAX; i++) {
        if (dns->sockets[i].io.fd == fd) {
            return &dns->sockets[i];
        }
    }
    return NULL;
}

// c-ares wants to know when a socket of its own is ready, or (false, false) is about to close it.
// Level-triggered: what it leaves unread must come again.
static void on_socket(void *context, ares_socket_t fd, int is_read, int is_written)
{
    struct dns *dns = context;
    struct dns_socket *at = find_socket(dns, fd);
    if (at != NULL) {
        loop_release(dns->loop, &at->io);
    } else if ((is_read || is_written) && (at = find_socket(dns, -1)) == NULL) {
        return; // more than ever there are: this one's questions end by their timeout
    }
    if (is_read || is_written) {
        at->io.fd = fd;
        if (loop_add_events(dns->loop, &at->io,
                            (is_read ? EPOLLIN : 0u) | (is_written ? EPOLLOUT : 0u)) != 0) {
            at->io.fd = -1;
        }
    }
}

// ---- the channel ----

static struct file_mark look_at(const struct dns *dns)
{
    struct stat facts;
    struct file_mark mark = {0};
    const char *path = dns->resolv_conf == NULL ? "/etc/resolv.conf" : dns->resolv_conf;
    if (stat(path, &facts) == 0) {
        mark.changed = facts.st_mtim;
        mark.size = facts.st_size;
        mark.inode = facts.st_ino;
    }
    return mark;
}

static bool is_same_mark(const struct file_mark *a, const struct file_mark *b)
{
    return a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec &&
           a->size == b->size && a->inode == b->inode;
}

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static int library_status;

static void init_library(void)
{
    library_status = ares_library_init(ARES_LIB_INIT_ALL);
}

static int open_channel(struct dns *dns, ares_channel *channel)
{
    struct ares_options options = {
        .timeout = (int)dns->timeout_ms,
        .tries = TRY_COUNT,
        .sock_state_cb = on_socket,
        .sock_state_cb_data = dns,
    };
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
    char *path = NULL; // c-ares takes it without const
    if (dns->resolv_conf != NULL) {
        path = str_dup(str_from_c(dns->resolv_conf));
        if (path == NULL) {
            return ERR_MEMORY;
        }
        options.resolvconf_path = path;
        mask |= ARES_OPT_RESOLVCONF;
    }
#ifdef ARES_OPT_QUERY_CACHE
    options.qcache_max_ttl = 0; // who asks has waited for the TTL already
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    int status = ares_init_options(channel, &options, mask);
    free(path);
    if (status == ARES_SUCCESS && dns->servers != NULL) {
        status = ares_set_servers_ports_csv(*channel, dns->servers);
        if (status != ARES_SUCCESS) {
            ares_destroy(*channel);
        }
    }
    return status == ARES_SUCCESS ? 0 : status == ARES_ENOMEM ? ERR_MEMORY : ERR_SYSTEM;
}

// A question whose A is answered and whose AAAA is not ends with success.
static void close_channel(struct dns *dns, ares_channel channel)
{
    dns->is_closing = true;
    ares_destroy(channel);
    dns->is_closing = false;
}

int dns_new(struct dns **out, struct loop *loop, const struct dns_config *config,
            unsigned address_max)
{
    pthread_once(&library_once, init_library);
    struct dns *dns = calloc(1, sizeof *dns);
    if (dns == NULL || library_status != ARES_SUCCESS) {
        free(dns);
        return dns == NULL ? ERR_MEMORY : ERR_SYSTEM;
    }
    *dns = (struct dns){.loop = loop,
                        .resolv_conf = config->resolv_conf,
                        .timeout_ms = config->timeout_ms,
                        .address_max = address_max};
    loop_timer_init(&dns->timer, on_timer);
    loop_timer_init(&dns->look, on_look);
    for (unsigned i = 0; i < SOCKET_MAX; i++) {
        dns->sockets[i] = (struct dns_socket){{.fd = -1, .on_event = on_event}, dns};
    }
    int err = 0;
    if (config->servers != NULL) {
        dns->servers = str_dup(str_from_c(config->servers));
        err = dns->servers == NULL ? ERR_MEMORY : 0;
    }
    dns->mark = look_at(dns);
    err = err == 0 ? open_channel(dns, &dns->channel) : err;
    if (err != 0) {
        free(dns->servers);
        free(dns);
        return err;
    }
    *out = dns;
    return 0;
}

void dns_free(struct dns **place)
{
    struct dns *dns = *place;
    *place = NULL;
    if (dns == NULL) {
        return;
    }
    close_channel(dns, dns->channel); // its sockets leave the loop, its questions end
    loop_timer_cancel(dns->loop, &dns->timer);
    loop_timer_cancel(dns->loop, &dns->look);
    free(dns->servers);
    free(dns);
}

void dns_renew(struct dns *dns)
{
    if (loop_timer_is_set(&dns->look)) {
        return;
    }
    loop_timer_set(dns->loop, &dns->look, LOOK_MS);
    struct file_mark mark = look_at(dns);
    ares_channel channel;
    if (is_same_mark(&mark, &dns->mark) || open_channel(dns, &channel) != 0) {
        return; // out of memory: the old one goes on, and the next look sees the change again
    }
    dns->mark = mark;
    ares_channel old = dns->channel;
    dns->channel = channel;
    close_channel(dns, old);
    arm_timer(dns);
}

// ---- questions ----

static const char *error_text(int status)
{
    switch (status) {
    case ARES_ENOTFOUND:
    case ARES_ENONAME:
        return "no such name";
    case ARES_ENODATA:
        return "the name has no address";
    case ARES_ETIMEOUT:
        return "timeout";
    case ARES_ESERVFAIL:
        return "the server failed";
    case ARES_EREFUSED:
        return "the server refuses";
    case ARES_ECONNREFUSED:
        return "no server could answer"; // older versions: also after SERVFAIL and REFUSED
    case ARES_EBADRESP:
    case ARES_EFORMERR:
        return "malformed answer";
    case ARES_EBADNAME:
        return "not a name";
    case ARES_ENOMEM:
        return "out of memory";
    default:
        return "the question failed";
    }
}

// By family, then by the bytes of the address.
static int compare(const void *left, const void *right)
{
    const struct sockaddr_storage *a = left;
    const struct sockaddr_storage *b = right;
    if (a->ss_family != b->ss_family) {
        return a->ss_family < b->ss_family ? -1 : 1;
    }
    if (a->ss_family == AF_INET) {
        return memcmp(&((const struct sockaddr_in *)left)->sin_addr,
                      &((const struct sockaddr_in *)right)->sin_addr, sizeof(struct in_addr));
    }
    return memcmp(&((const struct sockaddr_in6 *)left)->sin6_addr,
                  &((const struct sockaddr_in6 *)right)->sin6_addr, sizeof(struct in6_addr));
}

static bool has_family(const struct ares_addrinfo_node *nodes, int family)
{
    while (nodes != NULL && nodes->ai_family != family) {
        nodes = nodes->ai_next;
    }
    return nodes != NULL;
}

// Of what c-ares gives the address alone: no port, no flow, but the scope of a link-local one.
static bool take_address(const struct ares_addrinfo_node *node, struct sockaddr_storage *to)
{
    memset(to, 0, sizeof *to);
    if (node->ai_family == AF_INET && node->ai_addrlen >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in from;
        memcpy(&from, node->ai_addr, sizeof from);
        struct sockaddr_in clean = {.sin_family = AF_INET, .sin_addr = from.sin_addr};
        memcpy(to, &clean, sizeof clean);
        return true;
    }
    if (node->ai_family == AF_INET6 && node->ai_addrlen >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 from;
        memcpy(&from, node->ai_addr, sizeof from);
        struct sockaddr_in6 clean = {.sin6_family = AF_INET6,
                                     .sin6_addr = from.sin6_addr,
                                     .sin6_scope_id = from.sin6_scope_id};
        memcpy(to, &clean, sizeof clean);
        return true;
    }
    return false;
}

// Fills `answer`; NULL: out of memory, or nothing usable. To be freed.
static struct sockaddr_storage *collect(const struct ares_addrinfo_node *nodes, bool is_localhost,
                                        unsigned max, struct dns_answer *answer)
{
    unsigned total = 0;
    for (const struct ares_addrinfo_node *node = nodes; node != NULL; node = node->ai_next) {
        total++;
    }
    struct sockaddr_storage *list = total == 0 ? NULL : malloc(total * sizeof *list);
    if (list == NULL) {
        answer->error = total == 0 ? "the name has no address" : "out of memory";
        return NULL;
    }
    // Servers that listen on one family of this machine alone listen on IPv4.
    bool is_in4_only = is_localhost && has_family(nodes, AF_INET);
    unsigned count = 0;
    int ttl = INT32_MAX;
    for (const struct ares_addrinfo_node *node = nodes; node != NULL; node = node->ai_next) {
        if ((is_in4_only && node->ai_family != AF_INET) || !take_address(node, &list[count])) {
            continue;
        }
        count++;
        ttl = node->ai_ttl < ttl ? node->ai_ttl : ttl;
    }
    qsort(list, count, sizeof *list, compare);
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++) {
        if (kept == 0 || compare(&list[kept - 1], &list[i]) != 0) {
            list[kept++] = list[i];
        }
    }
    answer->left_out = kept > max ? kept - max : 0;
    answer->count = kept - answer->left_out;
    answer->ttl_ms = ttl < 0 ? 0 : (uint64_t)ttl * 1000;
    answer->addresses = list;
    answer->error = kept == 0 ? "the name has no address" : NULL;
    return list;
}

static void answered(struct dns_question *question, int status, struct ares_addrinfo *info)
{
    struct dns_answer answer = {0};
    struct sockaddr_storage *list = NULL;
    answer.has_ttl = question->dns->asking != question;
    if (question->dns->is_closing || status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
        answer.was_interrupted = true;
        answer.error = "interrupted";
    } else if (status != ARES_SUCCESS) {
        answer.error = error_text(status);
    } else {
        list = collect(info == NULL ? NULL : info->nodes, question->is_localhost,
                       question->dns->address_max, &answer);
    }
    if (info != NULL) {
        ares_freeaddrinfo(info);
    }
    question->on_done(question, &answer);
    free(list);
}

static void on_answer(void *context, int status, int timeouts, struct ares_addrinfo *info)
{
    (void)timeouts;
    answered(context, status, info);
}

void dns_ask(struct dns *dns, struct dns_question *question, const char *host)
{
    // Not sorted by c-ares: it would open a socket for each address.
    struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
    question->dns = dns;
    question->is_localhost = str_eq_case(str_from_c(host), STR("localhost"));
    dns->asking = question;
    ares_getaddrinfo(dns->channel, host, NULL, &hints, on_answer, question);
    dns->asking = NULL; // the question may be gone
    arm_timer(dns);
}
