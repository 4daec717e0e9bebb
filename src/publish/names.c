// SPDX-License-Identifier: MIT
#include "publish/names.h"
#include "base/hash.h"
#include <stdlib.h>

enum {
    FIRST_BUCKETS = 64,
    MOVE_BUCKETS = 8,
    EMPTY_MAX = 256, // buckets without a name that a slice of visits passes
};

// The link that a name hangs on, or would: in the old table while its bucket has not moved.
static struct name_node **bucket_of(const struct name_map *map, uint64_t hash)
{
    size_t in_old = (size_t)hash & (map->old_count - 1);
    if (map->old != NULL && in_old >= map->moved) {
        return &map->old[in_old];
    }
    return &map->buckets[(size_t)hash & (map->bucket_count - 1)];
}

struct name_node *name_map_find(const struct name_map *map, struct str name)
{
    if (map->bucket_count == 0) {
        return NULL;
    }
    uint64_t hash = hash_str(name);
    for (struct name_node *node = *bucket_of(map, hash); node != NULL; node = node->next) {
        if (node->hash == hash && str_eq(node->name, name)) {
            return node;
        }
    }
    return NULL;
}

static void move_some(struct name_map *map)
{
    for (unsigned i = 0; map->old != NULL && i < MOVE_BUCKETS; i++) {
        struct name_node *node = map->old[map->moved++];
        while (node != NULL) {
            struct name_node *next = node->next;
            struct name_node **bucket = &map->buckets[(size_t)node->hash & (map->bucket_count - 1)];
            node->next = *bucket;
            *bucket = node;
            node = next;
        }
        if (map->moved == map->old_count) {
            free(map->old);
            map->old = NULL;
        }
    }
}

static int grow(struct name_map *map)
{
    size_t count = map->bucket_count == 0 ? FIRST_BUCKETS : map->bucket_count * 2;
    struct name_node **buckets = calloc(count, sizeof(struct name_node *));
    if (buckets == NULL) {
        return map->bucket_count == 0 ? ERR_MEMORY : 0; // longer chains do as well
    }
    map->old = map->buckets;
    map->old_count = map->bucket_count;
    map->moved = 0;
    map->buckets = buckets;
    map->bucket_count = count;
    return 0;
}

int name_map_add(struct name_map *map, struct name_node *node)
{
    if (map->old == NULL && map->count >= map->bucket_count) {
        int err = grow(map);
        if (err != 0) {
            return err;
        }
    }
    move_some(map);
    node->hash = hash_str(node->name);
    struct name_node **bucket = bucket_of(map, node->hash);
    node->next = *bucket;
    *bucket = node;
    map->count++;
    return 0;
}

void name_map_remove(struct name_map *map, struct name_node *node)
{
    struct name_node **link = bucket_of(map, node->hash);
    while (*link != node) {
        link = &(*link)->next;
    }
    *link = node->next;
    map->count--;
    move_some(map);
}

static uint64_t reverse_bits(uint64_t value)
{
    for (unsigned width = 32; width > 0; width /= 2) {
        // Ones in the upper half of each pair of `width` bits.
        uint64_t mask = ~UINT64_C(0) / ((UINT64_C(1) << width) + 1);
        value = (value & mask) << width | ((value >> width) & mask);
    }
    return value;
}

static unsigned visit_bucket(struct name_node *node,
                             void (*visit)(void *context, struct name_node *node), void *context)
{
    unsigned count = 0;
    for (; node != NULL; node = node->next) {
        visit(context, node);
        count++;
    }
    return count;
}

// Positions count from the highest bit of a bucket's number down: when the table doubles, the two buckets that
// one becomes are neighbours in this order, so what lies behind a position still does.
uint64_t name_map_visit(const struct name_map *map, uint64_t after, unsigned limit,
                        void (*visit)(void *context, struct name_node *node), void *context)
{
    size_t count = map->old != NULL ? map->old_count : map->bucket_count;
    uint64_t at = after;
    unsigned visits = 0;
    unsigned empty = 0;
    if (count == 0) {
        return 0;
    }
    do {
        size_t bucket = (size_t)at & (count - 1);
        unsigned found = 0;
        if (map->old == NULL) {
            found = visit_bucket(map->buckets[bucket], visit, context);
        } else if (bucket >= map->moved) {
            found = visit_bucket(map->old[bucket], visit, context);
        } else {
            found = visit_bucket(map->buckets[bucket], visit, context);
            found += visit_bucket(map->buckets[bucket + count], visit, context);
        }
        visits += found;
        empty += found == 0;
        at = reverse_bits(reverse_bits(at | ~(uint64_t)(count - 1)) + 1);
    } while (at != 0 && visits < limit && empty < EMPTY_MAX);
    return at;
}

struct name_node *name_map_pop(struct name_map *map)
{
    while (map->old != NULL) {
        move_some(map);
    }
    // From the back, and the table shrinks: emptying it is linear. Nothing is added or found after.
    struct name_node *node = NULL;
    while (map->bucket_count > 0 && (node = map->buckets[map->bucket_count - 1]) == NULL) {
        map->bucket_count--;
    }
    if (node == NULL) {
        return NULL;
    }
    map->buckets[map->bucket_count - 1] = node->next;
    map->count--;
    return node;
}

void name_map_fini(struct name_map *map)
{
    free(map->buckets);
    free(map->old);
    *map = (struct name_map){0};
}
