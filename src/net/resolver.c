// SPDX-License-Identifier: MIT
// What control and the loop share of a name is its count of references and one flag. Each message on its
// way holds a reference, so that it may be run, at the end, after the resolver is gone.
#include "net/resolver.h"
#include "base/invariant.h"
#include "base/log.h"
#include "net/dns_int.h"
#include <stdlib.h>

enum {
    UNDER_WAY_MAX = 256, // questions; the others wait for their turn
    TURN_MAX = 64,       // begun in one turn of the loop: each may read the hosts file
    DEFAULT_TIMEOUT_MS = 2000,
    DEFAULT_MIN_TTL_MS = 1000,
    DEFAULT_MAX_TTL_MS = 300000,
};

struct resolver_name {
    atomic_uint refs; // the listener's, the loop's, and one for each message on its way
    atomic_bool is_dead;
    struct resolver *resolver; // gone, perhaps, once is_dead
    // control
    struct list all_node;
    resolver_answer *on_answer;
    void *context;
    struct loop_message watch; // control to loop
    struct loop_message forget;
    // loop
    struct list held_node; // linked: the loop has its reference
    struct list node;      // ready
    struct loop_timer timer;
    struct dns_question question;
    unsigned failures; // in a row
    bool is_asked;     // the question is under way
    bool is_forgotten; // meanwhile
    char host[];
};

struct resolver {
    struct loop *loop;    // NULL: not started
    struct loop *control; // the same one: nothing goes by mailbox
    struct list all;      // control
    bool is_stopping; // written once the loop does not run any more, or by the loop's own thread
    char *servers;
    struct resolver_config config;
    _Atomic uint64_t failures;
    _Atomic uint64_t left_out;
    // loop
    struct dns *dns;
    struct list held;
    struct list ready; // to be asked now, in order
    struct loop_task ask;
    unsigned under_way;
};

// An answer on its way to control.
struct reply {
    struct loop_message message;
    struct resolver_name *name;
    struct resolver_result result;
    struct sockaddr_storage addresses[];
};

static void ref(struct resolver_name *name)
{
    atomic_fetch_add_explicit(&name->refs, 1, memory_order_relaxed);
}

static void unref(struct resolver_name *name)
{
    // Release: what was done with it comes before; acquire: before the free by whoever is the last.
    if (atomic_fetch_sub_explicit(&name->refs, 1, memory_order_acq_rel) == 1) {
        free(name);
    }
}

static bool is_dead(const struct resolver_name *name)
{
    return atomic_load_explicit(&name->is_dead, memory_order_relaxed);
}

// ---- answers ----

static void tell(struct resolver_name *name, const struct resolver_result *result)
{
    if (!is_dead(name) && !name->resolver->is_stopping) {
        name->on_answer(name->context, result);
    }
}

static void on_reply(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct reply *reply = CONTAINER_OF(message, struct reply, message);
    tell(reply->name, &reply->result);
    unref(reply->name);
    free(reply);
}

// False: out of memory.
static bool deliver(struct resolver_name *name, const struct resolver_result *result)
{
    struct resolver *resolver = name->resolver;
    ref(name);
    if (resolver->loop == resolver->control) {
        tell(name, result); // it may unwatch the name
        unref(name);
        return true;
    }
    size_t len = result->count * sizeof *result->addresses;
    struct reply *reply = malloc(sizeof *reply + len);
    if (reply == NULL) {
        unref(name);
        return false;
    }
    reply->message.run = on_reply;
    reply->name = name;
    reply->result = *result;
    reply->result.addresses = reply->addresses;
    if (len > 0) {
        memcpy(reply->addresses, result->addresses, len);
    }
    loop_post(resolver->control, &reply->message);
    return true;
}

// How long until the next question.
static uint64_t pause_after(const struct resolver *resolver, struct resolver_name *name,
                            const struct dns_answer *answer)
{
    const struct resolver_config *config = &resolver->config;
    if (answer->count > 0) {
        name->failures = 0;
        uint64_t ttl_ms = answer->has_ttl ? answer->ttl_ms : config->max_ttl_ms;
        ttl_ms = ttl_ms < config->min_ttl_ms ? config->min_ttl_ms : ttl_ms;
        return ttl_ms > config->max_ttl_ms ? config->max_ttl_ms : ttl_ms;
    }
    uint64_t wait_ms = config->min_ttl_ms;
    for (unsigned i = 0; i < name->failures && wait_ms < RESOLVER_RETRY_MS; i++) {
        wait_ms *= 2;
    }
    name->failures++;
    return wait_ms > RESOLVER_RETRY_MS ? RESOLVER_RETRY_MS : wait_ms;
}

static void let_go(struct resolver_name *name)
{
    list_remove(&name->held_node);
    list_remove(&name->node);
    loop_timer_cancel(name->resolver->loop, &name->timer);
    unref(name);
}

static void count_answer(struct resolver *resolver, const struct dns_answer *answer)
{
    if (answer->count == 0) {
        atomic_fetch_add_explicit(&resolver->failures, 1, memory_order_relaxed);
    }
    if (answer->left_out > 0) {
        atomic_fetch_add_explicit(&resolver->left_out, answer->left_out, memory_order_relaxed);
    }
}

static void on_done(struct dns_question *question, const struct dns_answer *answer)
{
    struct resolver_name *name = CONTAINER_OF(question, struct resolver_name, question);
    struct resolver *resolver = name->resolver;
    name->is_asked = false;
    resolver->under_way--;
    if (!resolver->is_stopping && !list_is_empty(&resolver->ready)) {
        loop_task_add(resolver->loop, &resolver->ask);
    }
    if (name->is_forgotten) {
        let_go(name);
        return;
    }
    if (answer->was_interrupted) {
        if (!resolver->is_stopping) {
            list_push(&resolver->ready, &name->node);
            loop_task_add(resolver->loop, &resolver->ask);
        }
        return;
    }
    count_answer(resolver, answer);
    uint64_t wait_ms = pause_after(resolver, name, answer);
    loop_timer_set(resolver->loop, &name->timer, wait_ms);
    struct resolver_result result = {.addresses = answer->addresses,
                                     .count = answer->count,
                                     .error = answer->error,
                                     .ttl_ms = (unsigned)wait_ms};
    if (!deliver(name, &result)) {
        loop_timer_set(resolver->loop, &name->timer, resolver->config.min_ttl_ms);
    }
}

// ---- questions ----

static void on_ask(struct loop *loop, struct loop_task *task)
{
    struct resolver *resolver = CONTAINER_OF(task, struct resolver, ask);
    dns_renew(resolver->dns);
    for (unsigned i = 0;
         i < TURN_MAX && resolver->under_way < UNDER_WAY_MAX && !list_is_empty(&resolver->ready);
         i++) {
        struct resolver_name *name = LIST_FIRST(&resolver->ready, struct resolver_name, node);
        list_remove(&name->node);
        name->is_asked = true;
        resolver->under_way++;
        dns_ask(resolver->dns, &name->question, name->host);
    }
    if (resolver->under_way < UNDER_WAY_MAX && !list_is_empty(&resolver->ready)) {
        loop_task_add(loop, task);
    }
}

static void make_ready(struct resolver_name *name)
{
    list_append(&name->resolver->ready, &name->node);
    loop_task_add(name->resolver->loop, &name->resolver->ask);
}

static void on_due(struct loop *loop, struct loop_timer *timer)
{
    (void)loop;
    make_ready(CONTAINER_OF(timer, struct resolver_name, timer));
}

static void on_watch(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct resolver_name *name = CONTAINER_OF(message, struct resolver_name, watch);
    // Dead: there may be no resolver. (Alive, it is there: it outlives its loop's turns.)
    if (is_dead(name) || name->resolver->is_stopping) {
        unref(name);
        return;
    }
    list_append(&name->resolver->held, &name->held_node);
    make_ready(name);
}

static void on_forget(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct resolver_name *name = CONTAINER_OF(message, struct resolver_name, forget);
    if (name->is_asked) {
        name->is_forgotten = true; // c-ares still points to it
    } else if (!list_is_empty(&name->held_node)) {
        let_go(name);
    }
    unref(name);
}

// ---- control ----

static void order(struct resolver *resolver, struct loop_message *message)
{
    if (resolver->loop == resolver->control) {
        message->run(resolver->loop, message);
    } else {
        loop_post(resolver->loop, message);
    }
}

static void hand_over(struct resolver_name *name)
{
    ref(name); // the loop's
    name->watch.run = on_watch;
    order(name->resolver, &name->watch);
}

int resolver_new(struct resolver **out, const struct resolver_config *config)
{
    static const struct resolver_config defaults = {.timeout_ms = DEFAULT_TIMEOUT_MS,
                                                    .min_ttl_ms = DEFAULT_MIN_TTL_MS,
                                                    .max_ttl_ms = DEFAULT_MAX_TTL_MS};
    struct resolver *resolver = calloc(1, sizeof *resolver);
    if (resolver == NULL) {
        return ERR_MEMORY;
    }
    resolver->config = config == NULL ? defaults : *config;
    resolver->config.servers = NULL;
    if (config != NULL && config->server_count > 0) {
        int err = dns_server_list(config->servers, config->server_count, &resolver->servers);
        if (err != 0) {
            free(resolver);
            return err;
        }
    }
    list_init(&resolver->all);
    list_init(&resolver->held);
    list_init(&resolver->ready);
    loop_task_init(&resolver->ask, on_ask);
    *out = resolver;
    return 0;
}

int resolver_start(struct resolver *resolver, struct loop *loop, struct loop *control)
{
    struct dns_config config = {.servers = resolver->servers,
                                .timeout_ms = resolver->config.timeout_ms};
    int err = dns_new(&resolver->dns, loop, &config, RESOLVER_ADDRESS_MAX);
    if (err != 0) {
        log_error("names cannot be asked for: %s", err_text(err));
        return ERR_SYSTEM;
    }
    resolver->loop = loop;
    resolver->control = control;
    LIST_FOR_EACH (node, &resolver->all) {
        hand_over(CONTAINER_OF(node, struct resolver_name, all_node));
    }
    return 0;
}

void resolver_stop(struct resolver *resolver)
{
    if (resolver->is_stopping) {
        return;
    }
    resolver->is_stopping = true;
    loop_task_cancel(&resolver->ask);
    dns_free(&resolver->dns);
    while (!list_is_empty(&resolver->held)) {
        let_go(LIST_FIRST(&resolver->held, struct resolver_name, held_node));
    }
}

void resolver_free(struct resolver **place)
{
    struct resolver *resolver = *place;
    *place = NULL;
    if (resolver == NULL) {
        return;
    }
    resolver_stop(resolver);
    INVARIANT(list_is_empty(&resolver->all));
    free(resolver->servers);
    free(resolver);
}

int resolver_watch(struct resolver *resolver, struct str host, resolver_answer *on_answer,
                   void *context, struct resolver_name **out)
{
    if (host.len == 0 || host.len > RESOLVER_NAME_MAX) {
        return ERR_LIMIT;
    }
    struct resolver_name *name = calloc(1, sizeof *name + host.len + 1);
    if (name == NULL) {
        return ERR_MEMORY;
    }
    atomic_init(&name->refs, 1);
    atomic_init(&name->is_dead, false);
    name->resolver = resolver;
    name->on_answer = on_answer;
    name->context = context;
    list_init(&name->held_node);
    list_init(&name->node);
    loop_timer_init(&name->timer, on_due);
    name->question.on_done = on_done;
    str_copy(name->host, host.len + 1, host);
    list_append(&resolver->all, &name->all_node);
    *out = name;
    if (resolver->loop != NULL && !resolver->is_stopping) {
        hand_over(name);
    }
    return 0;
}

void resolver_unwatch(struct resolver_name **place)
{
    struct resolver_name *name = *place;
    *place = NULL;
    if (name == NULL) {
        return;
    }
    struct resolver *resolver = name->resolver;
    list_remove(&name->all_node);
    atomic_store_explicit(&name->is_dead, true, memory_order_relaxed);
    if (resolver->loop == NULL || resolver->is_stopping) {
        unref(name);
        return;
    }
    name->forget.run = on_forget; // takes the listener's reference along
    order(resolver, &name->forget);
}

uint64_t resolver_failure_count(const struct resolver *resolver)
{
    return atomic_load_explicit(&resolver->failures, memory_order_relaxed);
}

uint64_t resolver_left_out_count(const struct resolver *resolver)
{
    return atomic_load_explicit(&resolver->left_out, memory_order_relaxed);
}
