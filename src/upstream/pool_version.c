// SPDX-License-Identifier: MIT
// A pool's own version in one block: the version, its parts, status ranges, texts.
#include "upstream/pool_build.h"
#include <stdlib.h>
#include <string.h>

// What is left of the block.
struct room {
    char *at;
};

static size_t ranges_len(const struct pool_decl *decl)
{
    return ((size_t)decl->health.status_count + decl->passive.status_count) *
           sizeof(struct status_range);
}

static size_t texts_len(const struct pool_decl *decl)
{
    return decl->tls.server_name.len + decl->hash.name.len + decl->sticky.cookie.len +
           decl->health.path.len + decl->health.host.len + decl->health.body.len +
           decl->health.tls.server_name.len + 7;
}

static struct str put_text(struct room *room, struct str text)
{
    char *to = room->at;
    str_copy(to, text.len + 1, text);
    room->at += text.len + 1;
    return str_make(to, text.len);
}

static struct status_range *put_ranges(struct room *room, const struct status_range *ranges,
                                       unsigned count)
{
    size_t len = count * sizeof *ranges;
    struct status_range *to = (struct status_range *)(void *)room->at;
    if (len > 0) {
        memcpy(to, ranges, len);
    }
    room->at += len;
    return count == 0 ? NULL : to;
}

static void fill_settings(struct pool_settings *to, const struct pool_decl *decl, struct room *room)
{
    *to = (struct pool_settings){
        .keepalive_idle = decl->keepalive.idle,
        .keepalive_timeout_ms = decl->keepalive.timeout_ms,
        .timeouts = decl->timeouts,
        .protocol = (uint8_t)decl->protocol,
        .send_proxy = (uint8_t)decl->send_proxy,
        .balance = (uint8_t)decl->balance,
        .retry_budget = (uint8_t)decl->retry_budget,
        .panic_percent = (uint8_t)decl->panic_percent,
        .hash = decl->hash,
        .sticky = decl->sticky,
        .passive = decl->passive,
        .health = decl->health,
        .eject_max_percent = decl->eject.max_percent,
        .eject_base_ms = decl->eject.base_time_ms,
        .eject_max_ms = decl->eject.max_time_ms,
        .requests_per_target = decl->limits.requests_per_target,
        .queue = decl->limits.queue,
        .queue_timeout_ms = decl->limits.queue_timeout_ms,
        .slow_start_ms = decl->slow_start_ms,
    };
    to->health.statuses = put_ranges(room, decl->health.statuses, decl->health.status_count);
    to->passive.statuses = put_ranges(room, decl->passive.statuses, decl->passive.status_count);
    to->server_name = put_text(room, decl->tls.server_name);
    to->hash.name = put_text(room, decl->hash.name);
    to->sticky.cookie = put_text(room, decl->sticky.cookie);
    to->health.path = put_text(room, decl->health.path);
    to->health.host = put_text(room, decl->health.host);
    to->health.body = put_text(room, decl->health.body);
    to->health.tls.server_name = put_text(room, decl->health.tls.server_name);
    to->health.tls.ca = STR_NULL; // they are in health_tls
    to->health.tls.client_certificate = STR_NULL;
}

// The whole of it with its view; what the parts hold is given back before.
static void free_version(struct version *version)
{
    struct pool_own_version *own = CONTAINER_OF(version, struct pool_own_version, version);
    pool_view_free(own->own.view);
    free(own);
}

struct pool_own_version *pool_version_new(const struct pool_decl *decl)
{
    size_t parts_len = decl->target_count * sizeof(struct pool_part);
    struct pool_own_version *own =
        calloc(1, sizeof *own + parts_len + ranges_len(decl) + texts_len(decl));
    if (own == NULL) {
        return NULL;
    }
    struct room room = {.at = (char *)(own + 1)};
    version_init(&own->version, free_version);
    own->parts = (struct pool_part *)(void *)room.at;
    room.at += parts_len;
    fill_settings(&own->own.settings, decl, &room);
    own->pool.version = &own->version;
    own->pool.own = &own->own;
    return own;
}
