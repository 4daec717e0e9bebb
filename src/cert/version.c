// SPDX-License-Identifier: MIT
// Versions, and the names that they are found by.
//
//   name ─► links of all live versions that have it ─► slots[]: of each kind of key the one that is valid
//   longest; when it goes the next takes over
#include "base/hash.h"
#include "base/invariant.h"
#include "cert/table_int.h"
#include <stdlib.h>

// ---- names ----

static struct str key_of(struct str name)
{
    return name.len > 2 && name.p[0] == '*' ? str_from(name, 1) : name;
}

// The better of two of one kind; by name where dates are equal, so that all nodes choose the same.
static bool is_better(const struct cert_version *a, const struct cert_version *b)
{
    if (b == NULL || a->facts.not_after != b->facts.not_after) {
        return b == NULL || a->facts.not_after > b->facts.not_after;
    }
    return str_cmp(cert_slot_name(a->slot), cert_slot_name(b->slot)) < 0;
}

static void settle_name(struct cert_table *table, struct cert_name *name)
{
    const struct cert_version *best[2] = {NULL, NULL};
    for (const struct cert_link *link = name->links; link != NULL; link = link->next) {
        if (is_better(link->version, best[link->version->is_second])) {
            best[link->version->is_second] = link->version;
        }
    }
    bool had_any = name->slots[0] != NULL || name->slots[1] != NULL;
    bool has_any = best[0] != NULL || best[1] != NULL;
    for (unsigned i = 0; i < 2; i++) {
        struct cert_slot *slot = best[i] == NULL ? NULL : best[i]->slot;
        if (name->slots[i] != slot) {
            rcu_publish(name->slots[i], slot);
        }
    }
    cert_count(&table->counts.names, (int64_t)has_any - (int64_t)had_any);
}

static void settle_names(const struct cert_version *version)
{
    for (unsigned i = 0; i < version->name_count; i++) {
        settle_name(version->table, version->links[i].name);
    }
}

static void link_names(struct cert_version *version)
{
    for (unsigned i = 0; i < version->name_count; i++) {
        struct cert_link *link = &version->links[i];
        link->next = link->name->links;
        link->name->links = link;
    }
}

static void unlink_names(struct cert_version *version)
{
    for (unsigned i = 0; i < version->name_count; i++) {
        struct cert_link **at = &version->links[i].name->links;
        while (*at != &version->links[i]) {
            at = &(*at)->next;
        }
        *at = version->links[i].next;
    }
}

// Gives back the version's shares of its names.
static void release_names(struct cert_version *version)
{
    for (unsigned i = 0; i < version->name_count && version->links[i].name != NULL; i++) {
        struct cert_name *name = version->links[i].name;
        INVARIANT(name->refs > 0);
        if (--name->refs == 0) {
            list_append(&version->table->empty, &name->empty);
        }
        version->links[i].name = NULL;
    }
}

static struct cert_name *make_name(struct cert_table *table, struct str text)
{
    struct cert_name *name = cert_table_name(table, text);
    if (name != NULL) {
        return name;
    }
    name = calloc(1, sizeof *name + text.len);
    if (name == NULL || (name->retired = rcu_retired_new()) == NULL) {
        free(name);
        return NULL;
    }
    cds_lfht_node_init(&name->node);
    list_init(&name->empty);
    name->len = (unsigned)text.len;
    memcpy(name->text, text.p, text.len);
    rcu_node_added(&name->node);
    cds_lfht_add(table->names, (unsigned long)hash_str(text), &name->node);
    cert_table_name_added(table);
    if (str_eq(text, STR("*"))) {
        rcu_publish(table->any, name);
    }
    return name;
}

// ---- versions ----

static void free_version(struct version *base)
{
    struct cert_version *version = CONTAINER_OF(base, struct cert_version, version);
    struct cert_slot *slot = version->slot;
    cert_lru_drop(version->table, version);
    release_names(version);
    INVARIANT(slot->refs > 0);
    slot->refs--; // the caller sweeps
    free(version);
}

// Views are copied behind the version.
static struct str keep(char **at, struct str s)
{
    struct str kept = str_make(*at, s.len);
    str_copy(*at, s.len + 1, s);
    *at += s.len + 1;
    return kept;
}

static size_t texts_len(const struct certificate_decl *decl, const struct str *names,
                        unsigned name_count)
{
    const struct certificate_facts *facts = &decl->facts;
    size_t len = facts->subject.len + facts->issuer.len + facts->serial.len +
                 facts->fingerprint.len + facts->content.len + facts->key_type.len +
                 decl->chain_file.len + decl->key_file.len + 8;
    for (unsigned i = 0; i < name_count; i++) {
        len += names[i].len + 1;
    }
    return len;
}

static struct cert_version *make_version(const struct certificate_decl *decl,
                                         const struct str *names, unsigned name_count)
{
    size_t len = sizeof(struct cert_version) + name_count * sizeof(struct cert_link) +
                 name_count * sizeof(struct str) + texts_len(decl, names, name_count);
    struct cert_version *version = calloc(1, len);
    if (version == NULL) {
        return NULL;
    }
    version->links = (struct cert_link *)(version + 1);
    version->names = (struct str *)(version->links + name_count);
    char *at = (char *)(version->names + name_count);
    const struct certificate_facts *facts = &decl->facts;
    version->facts = (struct certificate_facts){
        .not_before = facts->not_before,
        .not_after = facts->not_after,
        .subject = keep(&at, facts->subject),
        .issuer = keep(&at, facts->issuer),
        .serial = keep(&at, facts->serial),
        .fingerprint = keep(&at, facts->fingerprint),
        .content = keep(&at, facts->content),
        .key_type = keep(&at, facts->key_type),
    };
    version->chain_file = keep(&at, decl->chain_file);
    version->key_file = keep(&at, decl->key_file);
    for (unsigned i = 0; i < name_count; i++) {
        version->names[i] = keep(&at, names[i]);
    }
    version->name_count = name_count;
    version->is_second = str_starts(facts->key_type, STR("rsa"));
    version->has_hosts = decl->host_count > 0;
    return version;
}

int cert_version_new(struct cert_table *table, struct cert_slot *slot,
                     const struct certificate_decl *decl, struct cert_version **out)
{
    const struct str *names = decl->name_count > 0 ? decl->names : decl->hosts;
    unsigned name_count = decl->name_count > 0 ? decl->name_count : decl->host_count;
    for (unsigned i = 0; i < name_count; i++) {
        if (names[i].len == 0 || names[i].len > CERT_NAME_LEN_MAX) {
            return ERR_LIMIT;
        }
    }
    struct cert_version *version = make_version(decl, names, name_count);
    if (version == NULL) {
        return ERR_MEMORY;
    }
    version_init(&version->version, free_version);
    version->table = table;
    version->slot = slot;
    version->number = ++table->version_number;
    slot->refs++;
    for (unsigned i = 0; i < name_count; i++) {
        struct cert_name *name = make_name(table, key_of(names[i]));
        if (name == NULL) {
            version_unref(&version->version);
            cert_table_sweep(table, NULL);
            return ERR_MEMORY;
        }
        if (name->refs++ == 0) {
            list_remove(&name->empty);
        }
        version->links[i] = (struct cert_link){.name = name, .version = version};
    }
    *out = version;
    return 0;
}

struct cert_version *cert_table_publish(struct cert_table *table, struct cert_slot *slot,
                                        struct cert_version *version)
{
    struct cert_version *before = slot->current;
    if (before != NULL) {
        unlink_names(before);
        cert_watch_remove(table, before);
    }
    if (version != NULL) {
        link_names(version);
        rcu_publish(slot->current, version); // first: no name may lead to an empty slot
        settle_names(version);
        cert_watch_add(table, version);
    }
    if (before != NULL) {
        settle_names(before);
        release_names(before);
    }
    if (version == NULL) {
        rcu_publish(slot->current, NULL); // when no name leads there any more
    }
    cert_count(&table->counts.certificates, (version != NULL) - (before != NULL));
    return before;
}
