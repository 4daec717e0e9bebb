// SPDX-License-Identifier: MIT
// A DNS server for tests, on a thread of its own: UDP and TCP of one port of 127.0.0.1. What it answers is
// a table that the test may change at any time.
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum dns_peer_kind {
    DNS_ANSWER,
    DNS_NO_NAME, // NXDOMAIN
    DNS_FAIL,    // SERVFAIL
    DNS_SILENCE,
    DNS_TRUNCATED, // by UDP; by TCP the answer
    DNS_GARBAGE,   // behind a header that fits
    DNS_IN4_ALONE, // no word on AAAA
};

struct dns_peer_name {
    const char *name;
    enum dns_peer_kind kind;
    const char *addresses; // "10.0.0.1 10.0.0.2 2001:db8::1"
    unsigned many;         // so many more: 10.1.0.0 and up
    unsigned ttl;
};

struct dns_peer {
    int udp;
    int tcp;
    uint16_t port;
    char server[32]; // "127.0.0.1:5353"
    pthread_t thread;
    pthread_mutex_t mutex;
    struct dns_peer_name names[16];
    unsigned name_count;
    atomic_bool is_stopping;
    atomic_uint questions; // for A
    atomic_uint over_tcp;
    char last[256]; // name asked for; with the mutex
};

void dns_peer_begin(struct dns_peer *peer);
void dns_peer_end(struct dns_peer *peer);
// Adds, or changes.
void dns_peer_set(struct dns_peer *peer, const struct dns_peer_name *name);
// The last name asked for is `name`.
bool dns_peer_was_asked(struct dns_peer *peer, const char *name);
