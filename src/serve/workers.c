// SPDX-License-Identifier: MIT
#include "serve/workers.h"
#include "base/log.h"
#include "net/address.h"
#include "net/outq.h"
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

struct worker {
    struct loop loop;
    struct proxy *proxy;
    pthread_t thread;
    bool is_running;
    unsigned index;
    // One of each kind: a second one is sent only when the first has arrived.
    struct order {
        struct loop_message message;
        struct worker *worker;
        atomic_bool is_under_way;
        uint64_t value;
    } drain, cut;
};

struct workers {
    unsigned count;
    struct upstream_peers peers;
    struct worker items[];
};

static struct proxy *order_done(struct loop_message *message, uint64_t *value)
{
    struct order *order = CONTAINER_OF(message, struct order, message);
    *value = order->value;
    struct proxy *proxy = order->worker->proxy;
    // An exchange, not a store: whoever found it under way has marked something before, which acquire
    // makes visible here; release: what was read of the order was read before. Pairs with send_order.
    (void)atomic_exchange_explicit(&order->is_under_way, false, memory_order_acq_rel);
    return proxy;
}

static void run_drain(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    uint64_t tunnel_ms;
    struct proxy *proxy = order_done(message, &tunnel_ms);
    proxy_drain(proxy, tunnel_ms);
}

static void run_cut(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    uint64_t unused;
    proxy_cut(order_done(message, &unused));
}

static void send_order(struct worker *worker, struct order *order, uint64_t value,
                       void (*run)(struct loop *loop, struct loop_message *message))
{
    // Under way already: it will see what was marked meanwhile.
    if (!atomic_exchange_explicit(&order->is_under_way, true, memory_order_acq_rel)) {
        order->worker = worker;
        order->value = value;
        order->message.run = run;
        loop_post(&worker->loop, &order->message);
    }
}

void workers_drain(struct workers *workers, uint64_t tunnel_ms)
{
    for (unsigned i = 0; i < workers->count; i++) {
        send_order(&workers->items[i], &workers->items[i].drain, tunnel_ms, run_drain);
    }
}

void workers_cut(struct workers *workers)
{
    for (unsigned i = 0; i < workers->count; i++) {
        send_order(&workers->items[i], &workers->items[i].cut, 0, run_cut);
    }
}

static int listen_one(struct workers *workers, const char *text, enum http_accept kind,
                      struct problems *problems)
{
    struct sockaddr_storage address;
    socklen_t len;
    int fds[STATS_WORKER_MAX];
    if (net_parse_listen(str_from_c(text), &address, &len) != 0) {
        return problems_add(problems, ERR_INVALID, text, "is not an address to listen on");
    }
    int err = net_listen(&address, len, workers->count, fds);
    if (err == ERR_IN_USE) {
        return problems_add(problems, err, text, "another process listens on this address");
    }
    if (err != 0) {
        return problems_add(problems, err, text, "cannot listen: %s", strerror(errno));
    }
    for (unsigned i = 0; i < workers->count && err == 0; i++) {
        err = proxy_listen(workers->items[i].proxy, fds[i], kind);
    }
    struct sockaddr_storage bound;
    socklen_t bound_len = sizeof bound;
    char shown[NET_ADDRESS_TEXT_MAX];
    if (getsockname(fds[0], (struct sockaddr *)&bound, &bound_len) == 0) {
        net_format_address(&bound, shown, sizeof shown);
        log_info("%s on %s", kind == HTTP_ACCEPT_TLS ? "https" : "http", shown);
    }
    return err == 0 ? 0 : problems_add(problems, err, text, "%s", err_text(err));
}

static int listen_all(struct workers *workers, const struct config *config,
                      struct problems *problems)
{
    int err = 0;
    for (unsigned i = 0; i < config->listen.http_count && err == 0; i++) {
        err = listen_one(workers, config->listen.http[i], HTTP_ACCEPT_PLAIN, problems);
    }
    for (unsigned i = 0; i < config->listen.https_count && err == 0; i++) {
        err = listen_one(workers, config->listen.https[i], HTTP_ACCEPT_TLS, problems);
    }
    return err;
}

int workers_new(struct workers **out, struct proxy_shared *shared, struct problems *problems)
{
    unsigned count = shared->worker_count;
    struct workers *workers = calloc(1, sizeof *workers + count * sizeof(struct worker));
    *out = workers;
    if (workers == NULL) {
        return problems_add(problems, ERR_MEMORY, "", "%s", err_text(ERR_MEMORY));
    }
    shared->peers = &workers->peers;
    for (unsigned i = 0; i < count; i++) {
        struct worker *worker = &workers->items[i];
        worker->index = i;
        int err = loop_init(&worker->loop);
        if (err == 0) {
            workers->count++;
            err = outq_pool_init(&worker->loop);
        }
        if (err == 0) {
            err = tls_loop_init(&worker->loop);
        }
        if (err == 0) {
            err = proxy_new(&worker->proxy, &worker->loop, i, shared);
            worker->loop.owner = worker->proxy;
        }
        if (err != 0) {
            return problems_add(problems, err, "", "cannot make worker %u: %s", i, err_text(err));
        }
    }
    return listen_all(workers, shared->config, problems);
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    loop_run(&worker->loop);
    return NULL;
}

int workers_start(struct workers *workers)
{
    for (unsigned i = 0; i < workers->count; i++) {
        struct worker *worker = &workers->items[i];
        if (pthread_create(&worker->thread, NULL, run_worker, worker) != 0) {
            return ERR_SYSTEM;
        }
        worker->is_running = true;
        char name[24];
        snprintf(name, sizeof name, "worker-%u", i);
        name[15] = 0; // the longest that Linux takes
        pthread_setname_np(worker->thread, name);
    }
    return 0;
}

void workers_stop(struct workers *workers)
{
    for (unsigned i = 0; i < workers->count; i++) {
        if (workers->items[i].is_running) {
            loop_stop(&workers->items[i].loop);
        }
    }
    for (unsigned i = 0; i < workers->count; i++) {
        if (workers->items[i].is_running) {
            pthread_join(workers->items[i].thread, NULL);
            workers->items[i].is_running = false;
            proxy_ask_nobody(workers->items[i].proxy);
        }
    }
}

// Runs what the loops still have to say to each other (requests that wait in pools' queues, which have all
// left), until nobody says anything more.
static void empty_mailboxes(struct workers *workers)
{
    bool any = true;
    while (any) {
        any = false;
        for (unsigned i = 0; i < workers->count; i++) {
            any = any || loop_has_messages(&workers->items[i].loop);
            loop_empty_mailbox(&workers->items[i].loop);
        }
    }
}

void workers_free(struct workers **place)
{
    struct workers *workers = *place;
    *place = NULL;
    if (workers == NULL) {
        return;
    }
    workers_stop(workers);
    for (unsigned i = 0; i < workers->count; i++) {
        if (workers->items[i].proxy != NULL) {
            // The last answers of other threads, to handshakes that wait for a certificate.
            loop_empty_mailbox(&workers->items[i].loop);
        }
    }
    // All proxies before any loop: each may still post to the loops of the others.
    for (unsigned i = 0; i < workers->count; i++) {
        proxy_free(&workers->items[i].proxy);
    }
    empty_mailboxes(workers);
    for (unsigned i = 0; i < workers->count; i++) {
        tls_loop_fini(&workers->items[i].loop);
        outq_pool_fini(&workers->items[i].loop);
        loop_fini(&workers->items[i].loop);
    }
    free(workers);
}

void workers_status(struct workers *workers, struct admin_status *status)
{
    status->worker_count = workers->count;
    for (unsigned i = 0; i < workers->count; i++) {
        struct worker_stats *stats = stats_of_worker(i);
        status->workers[i] = (struct admin_worker_status){
            .id = i,
            .connections = atomic_load_explicit(&stats->connections, memory_order_relaxed),
            .requests = atomic_load_explicit(&stats->counters[COUNTER_requests_total],
                                             memory_order_relaxed),
        };
    }
}
