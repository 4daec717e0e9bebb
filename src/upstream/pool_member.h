// SPDX-License-Identifier: MIT
// The kinds of members and what makes two of them the same. Control thread.
//
//   pool_target ┐ (not in front of a bare one)
//   pool_member ┴ in4 │ + address: in6 │ + text: unix path │ + text and one address: a name
#pragma once
#include "upstream/target.h"

struct member_in6 {
    struct pool_member member;
    uint8_t address[16];
};

// An address without a port.
struct member_address {
    uint8_t family; // AF_INET, AF_INET6; AF_UNSPEC: none
    uint8_t bytes[16];
};

struct member_named {
    struct pool_member member;
    struct member_address resolved; // one of the name's addresses, for good
    uint32_t host_len;              // of text: the name without the port
    uint32_t text_len;
    char text[]; // "name:80", "unix:/path"; terminated
};

// Makes the member of a declared address. `resolved` (AF_INET or AF_INET6, its port is not looked at) is the
// address that a name stands for; NULL for other kinds of address. With a slot a pool_target stands in front of it,
// whose count is taken from slot->counts (made when there are none yet, the slot's owner frees them); `pool`, `limit`
// and the health are left zero, `says_weight` -1. `slot` NULL: a bare member.
// refs is 0; free with pool_member_free(). NULL: out of memory.
struct pool_member *pool_member_new(struct pool_slot *slot, const struct target_address *address,
                                    const struct sockaddr *resolved) WARN_UNUSED;
// Nobody refers to it any more.
void pool_member_free(struct pool_member *member);

// What makes a member the same as another: scheme and address. Views into the member or the declaration.
struct member_key {
    uint8_t bytes[24];
    struct str text; // names and unix paths
};

void member_key_of(struct member_key *key, const struct pool_member *member);
// As in pool_member_new().
void member_key_of_address(struct member_key *key, const struct target_address *address,
                           const struct sockaddr *resolved);
bool member_key_eq(const struct member_key *a, const struct member_key *b);
// For tables of this process (seeded).
uint64_t member_key_hash(const struct member_key *key);
// The same on all nodes and after a restart, never 0: pool_target.id.
uint64_t member_key_id(const struct member_key *key);

// The member as one of a name, or NULL.
struct member_named *pool_member_name(struct pool_member *member);
// AF_INET, AF_INET6, AF_UNIX: of what is connected to; AF_UNSPEC: not known. Any thread.
uint8_t pool_member_family(const struct pool_member *member);
// Two addresses of one name (and port and scheme)? Any thread.
bool pool_member_is_beside(const struct pool_member *a, const struct pool_member *b);
