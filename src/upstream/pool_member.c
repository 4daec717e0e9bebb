// SPDX-License-Identifier: MIT
#include "upstream/pool_member.h"
#include "base/hash.h"
#include "upstream/pool_counts.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const struct member_named *named_of(const struct pool_member *member)
{
    return (const struct member_named *)(const void *)member;
}

static const struct member_in6 *in6_of(const struct pool_member *member)
{
    return (const struct member_in6 *)(const void *)member;
}

static void put_in4(const uint8_t *address, uint16_t port, struct sockaddr_storage *to,
                    socklen_t *len)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = port};
    memcpy(&in4.sin_addr, address, 4);
    memcpy(to, &in4, sizeof in4);
    *len = sizeof in4;
}

static void put_in6(const uint8_t *address, uint16_t port, struct sockaddr_storage *to,
                    socklen_t *len)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = port};
    memcpy(&in6.sin6_addr, address, 16);
    memcpy(to, &in6, sizeof in6);
    *len = sizeof in6;
}

static bool put_unix(const struct pool_member *member, struct sockaddr_storage *to, socklen_t *len)
{
    struct str path =
        str_from(str_make(named_of(member)->text, named_of(member)->text_len), STR("unix:").len);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    if (path.len == 0 || path.len >= sizeof un.sun_path) {
        return false;
    }
    memcpy(un.sun_path, path.p, path.len);
    memcpy(to, &un, sizeof un);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + 1);
    return true;
}

static bool put_resolved(const struct pool_member *member, struct sockaddr_storage *to,
                         socklen_t *len)
{
    const struct member_address *resolved = &named_of(member)->resolved;
    if (resolved->family == AF_INET) {
        put_in4(resolved->bytes, member->port, to, len);
    } else if (resolved->family == AF_INET6) {
        put_in6(resolved->bytes, member->port, to, len);
    }
    return resolved->family != AF_UNSPEC;
}

bool pool_member_address(const struct pool_member *member, struct sockaddr_storage *address,
                         socklen_t *len)
{
    memset(address, 0, sizeof *address);
    switch (member->family) {
    case AF_INET:
        put_in4(member->in4, member->port, address, len);
        return true;
    case AF_INET6:
        put_in6(in6_of(member)->address, member->port, address, len);
        return true;
    case AF_UNIX:
        return put_unix(member, address, len);
    default:
        return put_resolved(member, address, len);
    }
}

static size_t cut_len(int len, size_t size)
{
    return len < 0 ? 0 : (size_t)len < size ? (size_t)len : size - 1;
}

size_t pool_member_text(const struct pool_member *member, char *to, size_t size)
{
    const uint8_t *in4 = member->in4;
    char text[INET6_ADDRSTRLEN];
    switch (member->family) {
    case AF_INET:
        return cut_len(snprintf(to, size, "%u.%u.%u.%u:%u", in4[0], in4[1], in4[2], in4[3],
                                ntohs(member->port)),
                       size);
    case AF_INET6:
        inet_ntop(AF_INET6, in6_of(member)->address, text, sizeof text);
        return cut_len(snprintf(to, size, "[%s]:%u", text, ntohs(member->port)), size);
    default:
        return str_copy(to, size, str_make(named_of(member)->text, named_of(member)->text_len));
    }
}

size_t pool_member_show(const struct pool_member *member, char *to, size_t size)
{
    struct str scheme = member->scheme == TARGET_HTTPS ? STR("https://")
                        : member->scheme == TARGET_H2C ? STR("h2c://")
                                                       : STR("");
    size_t len = str_copy(to, size, scheme);
    return len + pool_member_text(member, to + len, size - len);
}

// ---- what makes two the same ----

static void make_key(struct member_key *key, uint8_t family, uint8_t scheme, uint16_t port,
                     const void *address, size_t len, struct str text)
{
    memset(key->bytes, 0, sizeof key->bytes);
    key->bytes[0] = family;
    key->bytes[1] = scheme;
    memcpy(key->bytes + 2, &port, 2);
    if (len > 0) {
        memcpy(key->bytes + 4, address, len);
    }
    key->text = text;
}

// A name's address has a family of its own there: not the same as the bare address.
static void add_resolved(struct member_key *key, const struct member_address *resolved)
{
    key->bytes[20] = resolved->family;
    memcpy(key->bytes + 4, resolved->bytes, sizeof resolved->bytes);
}

void member_key_of(struct member_key *key, const struct pool_member *member)
{
    if (member->family == AF_INET) {
        make_key(key, AF_INET, member->scheme, member->port, member->in4, 4, STR_NULL);
    } else if (member->family == AF_INET6) {
        make_key(key, AF_INET6, member->scheme, member->port, in6_of(member)->address, 16,
                 STR_NULL);
    } else {
        const struct member_named *named = named_of(member);
        make_key(key, member->family, member->scheme, 0, NULL, 0,
                 str_make(named->text, named->text_len));
        add_resolved(key, &named->resolved);
    }
}

// The text without its scheme.
static struct str bare_text(const struct target_address *address)
{
    size_t at = str_find(address->text, STR("://"));
    return address->is_unix || at == SIZE_MAX ? address->text : str_from(address->text, at + 3);
}

static struct member_address address_from(const struct sockaddr *from)
{
    struct member_address address = {.family = AF_UNSPEC};
    if (from != NULL && from->sa_family == AF_INET) {
        struct sockaddr_in in4;
        memcpy(&in4, from, sizeof in4);
        address.family = AF_INET;
        memcpy(address.bytes, &in4.sin_addr, 4);
    } else if (from != NULL && from->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, from, sizeof in6);
        address.family = AF_INET6;
        memcpy(address.bytes, &in6.sin6_addr, 16);
    }
    return address;
}

void member_key_of_address(struct member_key *key, const struct target_address *address,
                           const struct sockaddr *resolved)
{
    uint8_t scheme = (uint8_t)address->scheme;
    if (address->is_unix || address->is_name) {
        struct member_address of_name = address_from(resolved);
        make_key(key, address->is_unix ? AF_UNIX : AF_UNSPEC, scheme, 0, NULL, 0,
                 bare_text(address));
        add_resolved(key, &of_name);
    } else if (address->sockaddr.ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, &address->sockaddr, sizeof in6);
        make_key(key, AF_INET6, scheme, in6.sin6_port, &in6.sin6_addr, 16, STR_NULL);
    } else {
        struct sockaddr_in in4;
        memcpy(&in4, &address->sockaddr, sizeof in4);
        make_key(key, AF_INET, scheme, in4.sin_port, &in4.sin_addr, 4, STR_NULL);
    }
}

bool member_key_eq(const struct member_key *a, const struct member_key *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0 && str_eq(a->text, b->text);
}

uint64_t member_key_hash(const struct member_key *key)
{
    return hash_bytes(key->bytes, sizeof key->bytes) ^ hash_str(key->text);
}

// FNV-1a; what is hashed is declared by the pool's owner, and a clash is only unlucky.
static uint64_t mix_bytes(uint64_t hash, const void *p, size_t len)
{
    const uint8_t *bytes = p;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

uint64_t member_key_id(const struct member_key *key)
{
    // Numbers of families differ between systems, these do not.
    uint8_t bytes[sizeof key->bytes];
    memcpy(bytes, key->bytes, sizeof bytes);
    bytes[0] = bytes[0] == AF_INET ? 4 : bytes[0] == AF_INET6 ? 6 : bytes[0] == AF_UNIX ? 1 : 0;
    bytes[20] = bytes[20] == AF_INET ? 4 : bytes[20] == AF_INET6 ? 6 : 0;
    uint64_t hash = mix_bytes(UINT64_C(0xcbf29ce484222325), bytes, sizeof bytes);
    hash = mix_bytes(hash, key->text.p, key->text.len);
    // All bits count: the last bytes alone hardly reach the upper ones.
    hash = (hash ^ hash >> 33) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ hash >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    hash ^= hash >> 33;
    return hash == 0 ? 1 : hash;
}

struct member_named *pool_member_name(struct pool_member *member)
{
    return member->family == AF_UNSPEC ? (struct member_named *)(void *)member : NULL;
}

uint8_t pool_member_family(const struct pool_member *member)
{
    return member->family == AF_UNSPEC ? named_of(member)->resolved.family : member->family;
}

bool pool_member_is_beside(const struct pool_member *a, const struct pool_member *b)
{
    return a != b && a->family == AF_UNSPEC && b->family == AF_UNSPEC && a->scheme == b->scheme &&
           named_of(a)->text_len == named_of(b)->text_len &&
           memcmp(named_of(a)->text, named_of(b)->text, named_of(a)->text_len) == 0;
}

// ---- life ----

// Bytes of the member itself.
static size_t len_of(const struct target_address *address)
{
    if (address->is_unix || address->is_name) {
        return sizeof(struct member_named) + bare_text(address).len + 1;
    }
    return address->sockaddr.ss_family == AF_INET6 ? sizeof(struct member_in6)
                                                   : sizeof(struct pool_member);
}

static void fill_address(struct pool_member *member, const struct target_address *address,
                         const struct sockaddr *resolved)
{
    struct member_key key;
    member_key_of_address(&key, address, resolved);
    member->family = key.bytes[0];
    member->scheme = key.bytes[1];
    if (member->family == AF_INET) {
        memcpy(&member->port, key.bytes + 2, 2);
        memcpy(member->in4, key.bytes + 4, 4);
    } else if (member->family == AF_INET6) {
        memcpy(&member->port, key.bytes + 2, 2);
        memcpy(((struct member_in6 *)(void *)member)->address, key.bytes + 4, 16);
    } else {
        struct member_named *named = (struct member_named *)(void *)member;
        member->port = htons(address->port);
        named->resolved = address_from(resolved);
        named->text_len = (uint32_t)key.text.len;
        named->host_len = (uint32_t)address->host.len;
        str_copy(named->text, key.text.len + 1, key.text);
    }
}

static struct pool_target *make_target(struct pool_slot *slot, size_t member_len)
{
    if (slot->counts == NULL && (slot->counts = pool_counts_new()) == NULL) {
        return NULL;
    }
    size_t len = offsetof(struct pool_target, member) + member_len;
    struct pool_target *target = calloc(1, len < sizeof *target ? sizeof *target : len);
    if (target == NULL || (target->count = pool_counts_get(slot->counts)) == NULL) {
        free(target);
        return NULL;
    }
    target->slot = slot;
    target->health.says_weight = -1;
    list_init(&target->health.node);
    return target;
}

struct pool_member *pool_member_new(struct pool_slot *slot, const struct target_address *address,
                                    const struct sockaddr *resolved)
{
    struct pool_member *member = NULL;
    if (slot == NULL) {
        member = calloc(1, len_of(address));
    } else {
        struct pool_target *target = make_target(slot, len_of(address));
        member = target == NULL ? NULL : &target->member;
    }
    if (member == NULL) {
        return NULL;
    }
    member->is_bare = slot == NULL;
    fill_address(member, address, resolved);
    if (slot != NULL) {
        struct member_key key;
        member_key_of(&key, member);
        pool_target_of(member)->id = member_key_id(&key);
    }
    return member;
}

void pool_member_free(struct pool_member *member)
{
    struct pool_target *target = pool_target_of(member);
    if (target == NULL) {
        free(member);
        return;
    }
    pool_counts_put(target->slot->counts, target->count);
    free(target);
}
