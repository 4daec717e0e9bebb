// SPDX-License-Identifier: MIT
// New targets are tried before they are live, by probes of their own.
//
//   targets ─┬─ live and up, or not to be used ──────────────────────────────► settled
//            ├─ an address ─────────────► probe ─► `rise` good ones in a row ─► good ─┐
//            └─ a name ─► its addresses ─► probes ─► all looked at, one good ─► good ─┴► on_end
//
// on_end comes from a task of its own, so that whoever began a trial is never called from within, and so
// that nothing is freed inside a callback of a probe.
#include "base/buf.h"
#include "base/invariant.h"
#include "net/address.h"
#include "publish/health_int.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

enum {
    TRIAL_INTERVAL_MS = 1000, // at most
    TRIAL_TIMEOUT_MS = 2000,  // of a connect where the pool has no checks
    TRIAL_PROBE_MAX = 20000,  // of all trials together
};

struct trial_probe {
    struct trial_item *item;
    struct probe *probe;
    struct sockaddr_storage address;
    socklen_t address_len;
    unsigned streak; // good ones in a row
    bool is_judged;
    char reason[PROBE_REASON_MAX]; // of the last one
};

// A target.
struct trial_item {
    struct name_node node; // by its text
    struct publish_trial *trial;
    enum target_scheme scheme;
    uint16_t port;
    bool is_settled;
    bool is_good;
    struct resolver_name *question; // of a name
    // The same name as pools have it: a switch begins with its addresses.
    struct watched_name *watched;
    struct trial_probe *probes;
    unsigned probe_count;
    char reason[HEALTH_REASON_MAX];
    char *text; // owned
    struct str host;
};

struct publish_trial {
    struct list node; // health.trials
    struct publisher *publisher;
    struct health_decl health; // its texts and statuses are owned
    struct str server_name;    // owned
    struct health_source source;
    struct loop_timer timer;
    struct loop_task task;
    bool is_stopped;
    bool is_telling; // inside on_end
    bool is_good;
    void (*on_end)(void *context, const struct publish_trial_result *result);
    void *context;
    unsigned good_count;
    unsigned item_count;
    struct trial_item items[];
};

// ---- its end ----

static void end_probes(struct trial_item *item)
{
    for (unsigned i = 0; i < item->probe_count; i++) {
        if (item->probes[i].probe != NULL) {
            probe_end(&item->probes[i].probe);
            item->trial->publisher->health.trial_probes--;
        }
    }
}

// Nothing of it goes on; what was found out stays.
static void stop_trial(struct publish_trial *trial)
{
    if (trial->is_stopped) {
        return;
    }
    trial->is_stopped = true;
    loop_timer_cancel(trial->publisher->control, &trial->timer);
    for (unsigned i = 0; i < trial->item_count; i++) {
        struct trial_item *item = &trial->items[i];
        end_probes(item);
        if (item->question != NULL) {
            resolver_unwatch(&item->question);
        }
    }
}

static void free_text(struct str *text)
{
    free((void *)(uintptr_t)text->p);
    *text = STR_NULL;
}

static void free_trial(struct publish_trial *trial)
{
    stop_trial(trial);
    loop_task_cancel(&trial->task);
    list_remove(&trial->node);
    for (unsigned i = 0; i < trial->item_count; i++) {
        if (trial->items[i].watched != NULL) {
            name_unwatch(trial->publisher, trial->items[i].watched);
        }
        free(trial->items[i].probes);
        free(trial->items[i].text);
    }
    free_text(&trial->health.path);
    free_text(&trial->health.host);
    free_text(&trial->health.body);
    free_text(&trial->health.tls.server_name);
    free_text(&trial->server_name);
    free(trial->health.statuses);
    tls_context_unref(&trial->source.tls);
    tls_context_unref(&trial->source.health_tls);
    free(trial);
}

// Why it is not good, of the first address that is not.
static void explain(struct trial_item *item, struct buf *buf)
{
    const struct trial_probe *bad = NULL;
    for (unsigned i = 0; i < item->probe_count && bad == NULL; i++) {
        if (item->probes[i].streak < item->trial->health.rise) {
            bad = &item->probes[i];
        }
    }
    char text[HEALTH_REASON_MAX + INET6_ADDRSTRLEN + 4];
    char host[INET6_ADDRSTRLEN] = "";
    if (bad == NULL) {
        buf_put_json(buf, str_from_c(item->reason));
        return;
    }
    if (item->host.len > 0) { // which of the name's
        const void *bytes =
            bad->address.ss_family == AF_INET6
                ? (const void *)&((const struct sockaddr_in6 *)&bad->address)->sin6_addr
                : (const void *)&((const struct sockaddr_in *)&bad->address)->sin_addr;
        (void)inet_ntop(bad->address.ss_family, bytes, host, sizeof host);
    }
    const char *colon = host[0] != 0 ? ": " : "";
    if (!bad->is_judged) {
        snprintf(text, sizeof text, "%s%sno answer yet", host, colon);
    } else if (bad->streak > 0) {
        snprintf(text, sizeof text, "%s%sonly %u of %u good checks in a row", host, colon,
                 bad->streak, item->trial->health.rise);
    } else {
        snprintf(text, sizeof text, "%s%s%s", host, colon, bad->reason);
    }
    buf_put_json(buf, str_from_c(text));
}

static void write_failed(struct publish_trial *trial, struct buf *buf)
{
    buf_put_char(buf, '[');
    for (unsigned i = 0; i < trial->item_count; i++) {
        struct trial_item *item = &trial->items[i];
        if (trial->is_good || item->is_good) {
            continue;
        }
        if (buf->len > 1) {
            buf_put_char(buf, ',');
        }
        buf_put(buf, STR("{\"address\":"));
        buf_put_json(buf, item->node.name);
        buf_put(buf, STR(",\"detail\":"));
        explain(item, buf);
        buf_put_char(buf, '}');
    }
    buf_put_char(buf, ']');
}

static void on_task(struct loop *loop, struct loop_task *task)
{
    (void)loop;
    struct publish_trial *trial = CONTAINER_OF(task, struct publish_trial, task);
    struct buf buf;
    buf_init(&buf, 0);
    write_failed(trial, &buf);
    struct publish_trial_result result = {
        .is_good = trial->is_good,
        .failed = buf.failed ? STR("[]") : buf_str(&buf),
    };
    trial->is_telling = true;
    trial->on_end(trial->context, &result);
    buf_fini(&buf);
    free_trial(trial);
}

static void finish(struct publish_trial *trial, bool is_good)
{
    trial->is_good = is_good;
    stop_trial(trial);
    loop_task_add(trial->publisher->control, &trial->task);
}

static void on_time(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    finish(CONTAINER_OF(timer, struct publish_trial, timer), false);
}

// ---- its course ----

static bool looks_good(const struct trial_item *item)
{
    if (item->is_settled) {
        return true;
    }
    if (item->watched != NULL && item->watched->address_count == 0) {
        return false; // its answer is on the way: the next check's result looks again
    }
    bool is_any = false;
    for (unsigned i = 0; i < item->probe_count; i++) {
        if (!item->probes[i].is_judged) {
            return false;
        }
        is_any |= item->probes[i].streak >= item->trial->health.rise;
    }
    return is_any;
}

static void look_at(struct trial_item *item)
{
    struct publish_trial *trial = item->trial;
    trial->good_count -= item->is_good;
    item->is_good = looks_good(item);
    trial->good_count += item->is_good;
    if (trial->good_count == trial->item_count && !trial->is_stopped) {
        finish(trial, true);
    }
}

static void on_result(void *context, const struct probe_result *result)
{
    struct trial_probe *probe = context;
    probe->is_judged = true;
    probe->streak = result->is_good ? probe->streak + 1 : 0;
    str_copy(probe->reason, sizeof probe->reason, str_from_c(result->reason));
    look_at(probe->item);
}

// The address without scheme.
static struct str plain_text(const struct trial_item *item)
{
    size_t at = str_find(item->node.name, STR("://"));
    return at == SIZE_MAX ? item->node.name : str_from(item->node.name, at + 3);
}

// 0; or ERR_MEMORY, ERR_LIMIT: the item says why.
static int begin_probe(struct trial_item *item, struct trial_probe *probe,
                       const struct sockaddr_storage *address, socklen_t address_len)
{
    struct publish_trial *trial = item->trial;
    struct health *health = &trial->publisher->health;
    probe->item = item;
    probe->address = *address;
    probe->address_len = address_len;
    if (health->trial_probes >= TRIAL_PROBE_MAX) {
        str_copy(item->reason, sizeof item->reason, STR("too many targets are tried at a time"));
        return ERR_LIMIT;
    }
    const struct health_endpoint endpoint = {.text = plain_text(item),
                                             .scheme = item->scheme,
                                             .address = &probe->address,
                                             .address_len = probe->address_len};
    struct probe_spec spec;
    health_spec(&spec, &trial->source, &endpoint);
    probe->probe = probe_begin(health->prober, &spec, on_result, probe);
    if (probe->probe == NULL) {
        str_copy(item->reason, sizeof item->reason, STR("out of memory"));
        return ERR_MEMORY;
    }
    health->trial_probes++;
    return 0;
}

static bool is_same_answer(const struct trial_item *item, const struct resolver_result *result)
{
    if (item->probe_count != result->count) {
        return false;
    }
    for (unsigned i = 0; i < result->count; i++) {
        struct sockaddr_storage address = result->addresses[i];
        net_set_port(&address, item->port);
        if (memcmp(&address, &item->probes[i].address, sizeof address) != 0) {
            return false;
        }
    }
    return true;
}

// The name's addresses are others now: they are tried from the beginning.
static void take_answer(struct trial_item *item, const struct resolver_result *result)
{
    struct trial_probe *probes = calloc(result->count, sizeof *probes);
    if (probes == NULL) {
        str_copy(item->reason, sizeof item->reason, STR("out of memory"));
        return;
    }
    end_probes(item);
    free(item->probes);
    item->probes = probes;
    item->probe_count = 0;
    for (unsigned i = 0; i < result->count; i++) {
        struct sockaddr_storage address = result->addresses[i];
        net_set_port(&address, item->port);
        socklen_t len = address.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                      : sizeof(struct sockaddr_in);
        if (begin_probe(item, &probes[i], &address, len) != 0) {
            break;
        }
        item->probe_count++;
    }
    look_at(item);
}

static void on_answer(void *context, const struct resolver_result *result)
{
    struct trial_item *item = context;
    if (result->count == 0) {
        if (item->probe_count == 0) {
            snprintf(item->reason, sizeof item->reason, "name: %s", result->error);
        }
        return; // the last answer holds
    }
    if (!is_same_answer(item, result)) {
        take_answer(item, result);
    }
}

// ---- its beginning ----

static struct sockaddr_storage unix_address(struct str path, socklen_t *len)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_un *un = (struct sockaddr_un *)&address;
    un->sun_family = AF_UNIX;
    str_copy(un->sun_path, sizeof un->sun_path, path);
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(un->sun_path) + 1);
    return address;
}

static int begin_item(struct trial_item *item, const struct target_address *address)
{
    if (address->is_name) {
        str_copy(item->reason, sizeof item->reason, STR("name: no answer yet"));
        item->watched = name_watch(item->trial->publisher, item->host);
        if (item->watched == NULL) {
            return ERR_MEMORY;
        }
        if (str_eq(item->host, STR("localhost"))) { // is not asked for (RFC 6761 6.3)
            struct sockaddr_storage loopback = {.ss_family = AF_INET};
            ((struct sockaddr_in *)&loopback)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            struct resolver_result result = {.addresses = &loopback, .count = 1};
            take_answer(item, &result);
            return 0;
        }
        return resolver_watch(item->trial->publisher->resolver, item->host, on_answer, item,
                              &item->question);
    }
    struct sockaddr_storage storage = address->sockaddr;
    socklen_t len = address->sockaddr_len;
    if (address->is_unix) {
        storage = unix_address(address->host, &len);
    }
    item->probes = calloc(1, sizeof *item->probes);
    if (item->probes == NULL) {
        return ERR_MEMORY;
    }
    item->probe_count = 1;
    return begin_probe(item, &item->probes[0], &storage, len);
}

// Those of the live pool that are up need no trial.
static int settle_live(struct publish_trial *trial, const struct named_pool *pool)
{
    struct name_map by_text = {0};
    int err = 0;
    for (unsigned i = 0; i < trial->item_count && err == 0; i++) {
        err = name_map_add(&by_text, &trial->items[i].node);
    }
    if (err == 0 && pool != NULL && pool->health.publisher != NULL) {
        LIST_FOR_EACH (node, &pool->health.targets) {
            struct target_health *health = CONTAINER_OF(node, struct target_health, of_pool);
            struct pool_target *target = CONTAINER_OF(health, struct pool_target, health);
            char text[POOL_MEMBER_TEXT_MAX];
            size_t len = pool_member_show(&target->member, text, sizeof text);
            struct name_node *found = name_map_find(&by_text, str_make(text, len));
            if (found != NULL && health->state == HEALTH_UP && !health->is_ejected) {
                CONTAINER_OF(found, struct trial_item, node)->is_settled = true;
            }
        }
    }
    while (name_map_pop(&by_text) != NULL) {
    }
    name_map_fini(&by_text);
    return err;
}

static int copy_text(struct str *to, struct str from)
{
    if (from.len == 0) {
        *to = STR_NULL;
        return 0;
    }
    char *copy = str_dup(from);
    *to = str_make(copy, copy == NULL ? 0 : from.len);
    return copy == NULL ? ERR_MEMORY : 0;
}

// The pool's checks, made often; without any a connect is enough.
static int copy_health(struct publish_trial *trial, const struct pool_decl *decl)
{
    const struct health_decl *from = &decl->health;
    struct health_decl *to = &trial->health;
    if (from->type == HEALTH_OFF) {
        *to = (struct health_decl){.type = HEALTH_TCP,
                                   .interval_ms = TRIAL_INTERVAL_MS,
                                   .timeout_ms = TRIAL_TIMEOUT_MS,
                                   .rise = 1};
        return copy_text(&trial->server_name, decl->tls.server_name);
    }
    *to = (struct health_decl){
        .type = from->type,
        .port = from->port,
        .scheme = from->scheme,
        .interval_ms =
            from->interval_ms < TRIAL_INTERVAL_MS ? from->interval_ms : TRIAL_INTERVAL_MS,
        .timeout_ms = from->timeout_ms,
        .rise = from->rise > 0 ? from->rise : 1,
        .has_tls = from->has_tls,
    };
    int err = copy_text(&to->path, from->path);
    err = err != 0 ? err : copy_text(&to->host, from->host);
    err = err != 0 ? err : copy_text(&to->body, from->body);
    err = err != 0 ? err : copy_text(&to->tls.server_name, from->tls.server_name);
    err = err != 0 ? err : copy_text(&trial->server_name, decl->tls.server_name);
    if (err == 0 && from->status_count > 0) {
        to->statuses = malloc(from->status_count * sizeof to->statuses[0]);
        if (to->statuses == NULL) {
            return ERR_MEMORY;
        }
        memcpy(to->statuses, from->statuses, from->status_count * sizeof to->statuses[0]);
        to->status_count = from->status_count;
    }
    return err;
}

static int take_context(struct publisher *publisher, const struct pool_tls_decl *decl,
                        struct tls_context **context)
{
    struct named_tls *named;
    int err = tls_get(publisher, decl, &named);
    if (err == 0) {
        *context = tls_context_ref(named->context);
        tls_put(publisher, named);
    }
    return err;
}

static int take_contexts(struct publish_trial *trial, const struct pool_decl *decl)
{
    bool is_used = decl->health.scheme == HEALTH_SCHEME_HTTPS;
    for (unsigned i = 0; i < decl->target_count && !is_used; i++) {
        is_used = decl->targets[i].address.scheme == TARGET_HTTPS;
    }
    if (!is_used) {
        return 0;
    }
    int err = take_context(trial->publisher, &decl->tls, &trial->source.tls);
    if (err == 0 && decl->health.has_tls) {
        err = take_context(trial->publisher, &decl->health.tls, &trial->source.health_tls);
    }
    return err;
}

static int make_item(struct publish_trial *trial, const struct target_decl *decl)
{
    struct trial_item *item = &trial->items[trial->item_count];
    item->text = str_dup(decl->address.text);
    if (item->text == NULL) {
        return ERR_MEMORY;
    }
    trial->item_count++;
    item->trial = trial;
    item->node.name = str_make(item->text, decl->address.text.len);
    item->scheme = decl->address.scheme;
    item->port = decl->address.port;
    if (decl->address.is_name) { // a view of the text
        size_t at = str_find(item->node.name, decl->address.host);
        INVARIANT(at != SIZE_MAX);
        item->host = str_sub(item->node.name, at, decl->address.host.len);
    }
    // What is to get no requests need not be there.
    item->is_settled = decl->state != TARGET_UP || decl->weight == 0;
    return 0;
}

static int prepare(struct publish_trial *trial, struct str pool, const struct pool_decl *decl)
{
    struct publisher *publisher = trial->publisher;
    int err = copy_health(trial, decl);
    for (unsigned i = 0; i < decl->target_count && err == 0; i++) {
        err = make_item(trial, &decl->targets[i]);
    }
    if (err == 0) {
        err = take_contexts(trial, decl);
    }
    if (err == 0) {
        err = settle_live(trial, pool_by_name(publisher, pool, false));
    }
    trial->source.health = &trial->health;
    trial->source.server_name = trial->server_name;
    trial->source.protocol = (uint8_t)decl->protocol;
    trial->source.send_proxy = (uint8_t)decl->send_proxy;
    trial->source.origin_tls = publisher->health.origin_tls;
    return err;
}

int publisher_try_targets(struct publisher *publisher, struct str pool,
                          const struct pool_decl *decl, uint64_t wait_ms,
                          void (*on_end)(void *context, const struct publish_trial_result *result),
                          void *context, struct publish_trial **out)
{
    INVARIANT(publisher->control != NULL);
    struct publish_trial *trial =
        calloc(1, sizeof *trial + decl->target_count * sizeof trial->items[0]);
    if (trial == NULL) {
        return ERR_MEMORY;
    }
    trial->publisher = publisher;
    trial->on_end = on_end;
    trial->context = context;
    list_append(&publisher->health.trials, &trial->node);
    loop_timer_init(&trial->timer, on_time);
    loop_task_init(&trial->task, on_task);
    int err = prepare(trial, pool, decl);
    bool is_tried = wait_ms > 0 && publisher->health.prober != NULL;
    for (unsigned i = 0; i < decl->target_count && is_tried && err == 0; i++) {
        if (!trial->items[i].is_settled) {
            err = begin_item(&trial->items[i], &decl->targets[i].address);
        }
    }
    if (err != 0) {
        free_trial(trial);
        return err;
    }
    *out = trial;
    if (!is_tried) {
        finish(trial, true);
        return 0;
    }
    loop_timer_set(publisher->control, &trial->timer, wait_ms);
    for (unsigned i = 0; i < trial->item_count; i++) {
        look_at(&trial->items[i]);
    }
    if (trial->item_count == 0) {
        finish(trial, true);
    }
    return 0;
}

void publish_trial_end(struct publish_trial **place)
{
    struct publish_trial *trial = *place;
    *place = NULL;
    if (trial != NULL && !trial->is_telling) {
        free_trial(trial);
    }
}

void trials_stop(struct publisher *publisher)
{
    LIST_FOR_EACH (node, &publisher->health.trials) {
        struct publish_trial *trial = CONTAINER_OF(node, struct publish_trial, node);
        stop_trial(trial);
        loop_task_cancel(&trial->task);
    }
}

void trials_free(struct publisher *publisher)
{
    LIST_FOR_EACH_SAFE (node, &publisher->health.trials) {
        free_trial(CONTAINER_OF(node, struct publish_trial, node));
    }
}
