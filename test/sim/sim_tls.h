// SPDX-License-Identifier: MIT
// TLS of simulated clients, certificates and policies: what a connection was made with, and what each host
// has now. These take the place of net/tls.h's and cert/'s functions that the proxy calls.
#pragma once
#include "net/tls.h"
#include "route/table.h"

enum { SIM_HOSTS = 8 };

struct tls {
    char sni[64]; // "": none
    struct tls_scope scope;
    bool has_certificate; // the client's
    bool is_h2;
};

// What is declared for a host; a host that is not in the list has the default certificate and no policy.
struct sim_host {
    const char *name;
    uint64_t ids[2];
    struct route_client_auth auth; // id 0: none
};

struct sim_tls {
    struct sim_host hosts[SIM_HOSTS];
    unsigned host_count;
    struct tls *client; // of new requests; NULL: plain
};

struct sim;

// The connection that a handshake for this name gives now.
struct tls sim_handshake(struct sim *sim, const char *sni);
const struct sim_host *sim_find_host(struct sim *sim, struct str name);
