// SPDX-License-Identifier: MIT
// Single questions to the hosts file and to DNS servers, by c-ares on a loop. Loop thread.
//
//   dns_ask ─► c-ares ─► its sockets and its timeout in the loop ─► on_done
#pragma once
#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"
#include <sys/socket.h>

struct dns;
struct dns_question;

struct dns_config {
    char *servers;           // "10.0.0.2:53,[::1]:5353"; NULL: those of the system. Copied
    const char *resolv_conf; // NULL: /etc/resolv.conf. Static
    unsigned timeout_ms;     // of one try
};

// Addresses ordered by family and bytes, without repeats; until the callback returns.
struct dns_answer {
    const struct sockaddr_storage *addresses;
    unsigned count;       // 0: none, see `error`
    unsigned left_out;    // there were more than the bound
    const char *error;    // static text; NULL: none
    uint64_t ttl_ms;      // the least of all
    bool has_ttl;         // false: of the hosts file, or the name was an address
    bool was_interrupted; // the channel has ended; nothing is known
};

// Embedded in its owner; until on_done it must stay.
struct dns_question {
    struct dns *dns;
    void (*on_done)(struct dns_question *question, const struct dns_answer *answer);
    bool is_localhost;
};

// Reads the servers from "10.0.0.2", "127.0.0.1:5353", "::1", "[::1]:53" into a list for dns_config;
// free() it. 0; ERR_INVALID: one is no address; ERR_MEMORY.
int dns_server_list(const char *const *servers, unsigned count, char **list) WARN_UNUSED;

// At most `address_max` addresses an answer. 0; ERR_MEMORY; ERR_SYSTEM.
int dns_new(struct dns **dns, struct loop *loop, const struct dns_config *config,
            unsigned address_max) WARN_UNUSED;
// Questions under way are interrupted. Any thread while the loop does not run.
void dns_free(struct dns **dns);
// Takes resolv.conf anew if it has changed; looks at most every few seconds. Questions under way are
// interrupted then. Not inside of on_done.
void dns_renew(struct dns *dns);
// on_done comes once, perhaps before the return. Not inside of on_done.
void dns_ask(struct dns *dns, struct dns_question *question, const char *host);
