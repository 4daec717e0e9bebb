// SPDX-License-Identifier: MIT
// Active checks: what a target is asked, and what follows from the answers.
//
//   UNKNOWN ── first answer ──► UP ── `fall` bad ones in a row ──► DOWN ── `rise` good ones ──► UP
#include "base/hash.h"
#include "net/address.h"
#include "publish/health_int.h"
#include <stdio.h>

// ---- what is asked ----

static bool is_over_tls(const struct health_source *source, enum target_scheme scheme)
{
    switch (source->health->scheme) {
    case HEALTH_SCHEME_HTTP:
        return false;
    case HEALTH_SCHEME_HTTPS:
        return true;
    case HEALTH_SCHEME_TARGET:
        break;
    }
    return scheme == TARGET_HTTPS;
}

// As requests are sent, unless the check goes another way than they do.
static enum http_client_protocol protocol_of(const struct health_source *source,
                                             enum target_scheme scheme, bool is_tls)
{
    if (is_tls != (scheme == TARGET_HTTPS)) {
        return HTTP_CLIENT_AUTO;
    }
    if (scheme == TARGET_H2C) {
        return HTTP_CLIENT_H2;
    }
    switch ((enum pool_protocol)source->protocol) {
    case POOL_H2:
    case POOL_H2C:
        return HTTP_CLIENT_H2;
    case POOL_HTTP1:
        return is_tls ? HTTP_CLIENT_HTTP1 : HTTP_CLIENT_AUTO;
    case POOL_AUTO:
        break;
    }
    return HTTP_CLIENT_AUTO;
}

void health_spec(struct probe_spec *spec, const struct health_source *source,
                 const struct health_endpoint *endpoint)
{
    const struct health_decl *health = source->health;
    bool is_tls = is_over_tls(source, endpoint->scheme);
    uint16_t port = net_port(endpoint->address);
    bool is_beside = health->port != 0 && port != 0 && health->port != port;
    bool is_unix = str_starts(endpoint->text, STR("unix:"));
    *spec = (struct probe_spec){
        .type = health->type,
        .address = *endpoint->address,
        .address_len = endpoint->address_len,
        .protocol = protocol_of(source, endpoint->scheme, is_tls),
        // Who listens on another port is not the one that is told who the clients are.
        .send_proxy = is_beside ? SEND_PROXY_OFF : source->send_proxy,
        .host = health->host.len > 0 ? health->host
                : is_unix            ? STR("localhost")
                                     : endpoint->text,
        .path = health->path,
        .body = health->body,
        .statuses = health->statuses,
        .status_count = health->status_count,
        .interval_ms = health->interval_ms,
        .timeout_ms = health->timeout_ms,
    };
    if (is_beside) {
        net_set_port(&spec->address, (uint16_t)health->port);
    }
    if (is_tls) {
        bool has_own = health->has_tls && source->health_tls != NULL;
        struct str name = has_own ? health->tls.server_name : source->server_name;
        spec->tls = has_own               ? source->health_tls
                    : source->tls != NULL ? source->tls
                                          : source->origin_tls;
        spec->server_name = name.len > 0 ? name : net_without_port(spec->host);
    }
}

// ---- when it changes ----

static uint64_t mix(uint64_t digest, const void *bytes, size_t len)
{
    return (digest ^ hash_bytes(bytes, len)) * 0x9E3779B97F4A7C15ull;
}

static uint64_t mix_str(uint64_t digest, struct str text)
{
    return mix(digest, text.len > 0 ? text.p : "", text.len);
}

uint64_t active_digest(const struct publisher *publisher, const struct pool_settings *settings)
{
    const struct health_decl *health = &settings->health;
    // A probe holds its context, so that no other one can have its address meanwhile.
    const uint64_t numbers[] = {
        (uint64_t)health->type,
        health->port,
        (uint64_t)health->scheme,
        health->interval_ms,
        health->timeout_ms,
        settings->protocol,
        settings->send_proxy,
        health->has_tls,
        (uintptr_t)settings->tls,
        (uintptr_t)settings->health_tls,
        (uintptr_t)publisher->health.origin_tls,
    };
    uint64_t digest = mix(0, numbers, sizeof numbers);
    digest = mix_str(digest, health->path);
    digest = mix_str(digest, health->host);
    digest = mix_str(digest, health->body);
    digest = mix_str(digest, health->tls.server_name);
    digest = mix_str(digest, settings->server_name);
    if (health->status_count > 0) {
        digest = mix(digest, health->statuses, health->status_count * sizeof health->statuses[0]);
    }
    return digest == 0 ? 1 : digest;
}

// ---- what follows from an answer ----

static void set_state(struct publisher *publisher, struct target_health *health,
                      enum health_state state)
{
    publisher->health.down_count -= health->state == HEALTH_DOWN;
    publisher->health.down_count += state == HEALTH_DOWN;
    health->state = (uint8_t)state;
    health->streak = 0;
}

static void become(struct publisher *publisher, struct pool_target *target,
                   const struct pool_settings *settings, enum health_state state,
                   const char *reason)
{
    struct target_health *health = &target->health;
    // That a target is found up at its first check is told, but nothing has changed.
    bool is_first = health->state == HEALTH_UNKNOWN;
    publisher->health.transitions += !is_first || state == HEALTH_DOWN;
    set_state(publisher, health, state);
    if (state == HEALTH_DOWN) {
        passive_end(publisher, target); // its checks decide from now on when it is back
        warm_end(target);
    } else if (!is_first || health->is_late) { // those that a pool begins with are alike
        warm_begin(publisher, target, settings);
    }
    health_changed(publisher, target, state == HEALTH_DOWN ? "down" : "up", reason);
}

static void judge(struct publisher *publisher, struct pool_target *target,
                  const struct pool_settings *settings, const struct probe_result *result)
{
    struct target_health *health = &target->health;
    unsigned needed = 0;
    switch ((enum health_state)health->state) {
    case HEALTH_UNKNOWN:
        needed = 1;
        break;
    case HEALTH_UP:
        needed = settings->health.fall;
        break;
    case HEALTH_DOWN:
        needed = settings->health.rise;
        break;
    }
    bool is_against =
        health->state == HEALTH_UNKNOWN || result->is_good != (health->state == HEALTH_UP);
    health->streak = is_against ? health->streak + 1 : 0;
    if (health->state == HEALTH_DOWN && !result->is_good) { // why it is still down
        str_copy(health->reason, sizeof health->reason, str_from_c(result->reason));
    }
    if (is_against && health->streak >= needed) {
        become(publisher, target, settings, result->is_good ? HEALTH_UP : HEALTH_DOWN,
               result->reason);
    }
}

// What the target says of itself holds until an answer does not say it any more.
static void take_word(struct publisher *publisher, struct pool_target *target,
                      const struct pool_settings *settings, const struct probe_result *result)
{
    struct target_health *health = &target->health;
    if (result->status == 0) {
        return; // no answer, no word
    }
    if (result->says_weight != health->says_weight) {
        health->says_weight = result->says_weight;
        char reason[HEALTH_REASON_MAX];
        snprintf(reason, sizeof reason, "it says weight %d itself", result->says_weight);
        health_changed(publisher, target, "weight",
                       result->says_weight >= 0 ? reason : "as it is declared");
    }
    // Last: it is the stronger, and its reason stays to be seen.
    if (result->says_drain != health->says_drain) {
        health->says_drain = result->says_drain;
        health_changed(publisher, target, result->says_drain ? "drain" : "up",
                       result->says_drain ? "it says drain itself"
                                          : "it does not say drain any more");
        if (!result->says_drain && health->state == HEALTH_UP) {
            warm_begin(publisher, target, settings);
        }
    }
}

static void on_result(void *context, const struct probe_result *result)
{
    struct pool_target *target = context;
    struct publisher *publisher = target->pool->health.publisher;
    const struct pool_settings *settings = health_settings(target->pool);
    if (settings == NULL || settings->health.type == HEALTH_OFF) {
        return; // deleted in this moment: nobody is interested
    }
    take_word(publisher, target, settings, result);
    judge(publisher, target, settings, result);
    if (result->is_good) {
        passive_saw_good(publisher, target, settings, result->ns);
    } else {
        target->health.good = 0;
    }
}

// ---- who is asked ----

// False: the address is not known.
static bool make_spec(const struct publisher *publisher, struct pool_target *target,
                      const struct pool_settings *settings, struct probe_spec *spec, char *text,
                      size_t size)
{
    struct sockaddr_storage address = {0};
    const struct health_source source = {
        .health = &settings->health,
        .server_name = settings->server_name,
        .protocol = settings->protocol,
        .send_proxy = settings->send_proxy,
        .tls = settings->tls,
        .health_tls = settings->health_tls,
        .origin_tls = publisher->health.origin_tls,
    };
    struct health_endpoint endpoint = {
        .text = str_make(text, pool_member_text(&target->member, text, size)),
        .scheme = (enum target_scheme)target->member.scheme,
        .address = &address,
    };
    if (!pool_member_address(&target->member, &address, &endpoint.address_len)) {
        return false;
    }
    health_spec(spec, &source, &endpoint);
    return true;
}

static void go_unchecked(struct publisher *publisher, struct pool_target *target)
{
    struct target_health *health = &target->health;
    bool is_out = health->declared == TARGET_DOWN;
    bool was_down = health->state == HEALTH_DOWN;
    active_end(publisher, target);
    set_state(publisher, health, is_out ? HEALTH_UNKNOWN : HEALTH_UP);
    if (is_out) {
        passive_end(publisher, target);
        warm_end(target);
    } else if (was_down) {
        health_changed(publisher, target, "up", "it is not checked any more");
    }
}

static bool go_checked(struct publisher *publisher, struct pool_target *target,
                       const struct pool_settings *settings, uint64_t digest)
{
    struct target_health *health = &target->health;
    struct probe_spec spec;
    char text[POOL_MEMBER_TEXT_MAX];
    if (!make_spec(publisher, target, settings, &spec, text, sizeof text)) {
        return true;
    }
    if (health->probe != NULL) {
        if (probe_change(health->probe, &spec) != 0) {
            return false;
        }
    } else {
        health->probe = probe_begin(publisher->health.prober, &spec, on_result, target);
        if (health->probe == NULL) {
            return false;
        }
    }
    health->digest = digest;
    return true;
}

bool active_follow(struct publisher *publisher, struct pool_target *target,
                   const struct pool_settings *settings, uint64_t digest, bool is_new)
{
    struct target_health *health = &target->health;
    if (publisher->health.prober == NULL || settings->health.type == HEALTH_OFF ||
        health->declared == TARGET_DOWN) {
        go_unchecked(publisher, target);
        return true;
    }
    if (health->probe != NULL && health->digest == digest) {
        return true; // nothing has changed for it
    }
    if (health->probe == NULL && !is_new && health->state == HEALTH_UP && health->streak == 0) {
        // It served without checks, and goes on so until the first one.
        health->streak = settings->health.fall > 0 ? settings->health.fall - 1 : 0;
    }
    return go_checked(publisher, target, settings, digest);
}

void active_end(struct publisher *publisher, struct pool_target *target)
{
    struct target_health *health = &target->health;
    if (health->probe != NULL) {
        probe_end(&health->probe);
    }
    health->digest = 0;
    health->says_drain = false;
    health->says_weight = -1;
    set_state(publisher, health, HEALTH_UNKNOWN);
}
