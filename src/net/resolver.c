// SPDX-License-Identifier: MIT
#include "net/resolver.h"
#include "base/clock.h"
#include "base/invariant.h"
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct resolver_name {
    struct loop_message message; // the answer's way to control; one under way at most
    struct list node;            // in urgent or later; unlinked: asked, or its answer is under way
    struct resolver *resolver;
    resolver_answer *on_answer;
    void *context;
    uint64_t due_ms;
    bool is_dead;   // unwatched while unlinked: freed when its answer comes
    bool is_posted; // the message is in the mailbox
    bool is_orphan; // the resolver is no more
    bool has_answer;
    socklen_t len;
    struct sockaddr_storage answer;
    struct list all_node;
    char host[RESOLVER_NAME_MAX + 1];
};

struct resolver {
    pthread_mutex_t mutex; // all but what control alone uses
    pthread_cond_t wake;
    struct list urgent;
    struct list later; // by due time
    struct list all;   // control
    struct loop *control;
    bool is_started;
    bool is_stopping;
    unsigned refs; // the owner and the thread, which may be in a question when it all ends
    _Atomic uint64_t failures;
};

static void unref(struct resolver *resolver)
{
    pthread_mutex_lock(&resolver->mutex);
    unsigned left = --resolver->refs;
    pthread_mutex_unlock(&resolver->mutex);
    if (left == 0) {
        pthread_cond_destroy(&resolver->wake);
        pthread_mutex_destroy(&resolver->mutex);
        free(resolver);
    }
}

int resolver_new(struct resolver **out)
{
    struct resolver *resolver = calloc(1, sizeof *resolver);
    if (resolver == NULL) {
        return ERR_MEMORY;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&resolver->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&resolver->mutex, NULL);
    list_init(&resolver->urgent);
    list_init(&resolver->later);
    list_init(&resolver->all);
    resolver->refs = 1;
    *out = resolver;
    return 0;
}

static uint64_t now_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

// With the mutex. The name to ask now, taken from its list; NULL: stopping.
static struct resolver_name *wait_name(struct resolver *resolver)
{
    while (!resolver->is_stopping) {
        struct list *list = NULL;
        if (!list_is_empty(&resolver->urgent)) {
            list = &resolver->urgent;
        } else if (!list_is_empty(&resolver->later)) {
            list = &resolver->later;
        }
        if (list == NULL) {
            pthread_cond_wait(&resolver->wake, &resolver->mutex);
            continue;
        }
        struct resolver_name *name = LIST_FIRST(list, struct resolver_name, node);
        if (list == &resolver->urgent || name->due_ms <= now_ms()) {
            list_remove(&name->node);
            return name;
        }
        struct timespec until = {.tv_sec = (time_t)(name->due_ms / 1000),
                                 .tv_nsec = (long)(name->due_ms % 1000 * NS_PER_MS)};
        pthread_cond_timedwait(&resolver->wake, &resolver->mutex, &until);
    }
    return NULL;
}

// The first address; of "localhost" the first of IPv4 if there is one, since servers that listen on
// one family alone listen on that.
static const struct addrinfo *choose(const struct addrinfo *list, const char *host)
{
    const struct addrinfo *first = NULL;
    for (const struct addrinfo *at = list; at != NULL; at = at->ai_next) {
        if (at->ai_family != AF_INET && at->ai_family != AF_INET6) {
            continue;
        }
        if (first == NULL || (first->ai_family == AF_INET6 && at->ai_family == AF_INET &&
                              strcmp(host, "localhost") == 0)) {
            first = at;
        }
    }
    return first;
}

static bool ask(const char *host, struct sockaddr_storage *answer, socklen_t *len)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    if (getaddrinfo(host, NULL, &hints, &list) != 0) {
        return false;
    }
    const struct addrinfo *chosen = choose(list, host);
    if (chosen != NULL) {
        memcpy(answer, chosen->ai_addr, chosen->ai_addrlen);
        *len = chosen->ai_addrlen;
    }
    freeaddrinfo(list);
    return chosen != NULL;
}

static void on_message(struct loop *loop, struct loop_message *message);

static void *run_thread(void *argument)
{
    struct resolver *resolver = argument;
    pthread_mutex_lock(&resolver->mutex);
    struct resolver_name *name;
    while ((name = wait_name(resolver)) != NULL) {
        char host[RESOLVER_NAME_MAX + 1];
        str_copy(host, sizeof host, str_from_c(name->host));
        pthread_mutex_unlock(&resolver->mutex);
        struct sockaddr_storage answer;
        socklen_t len = 0;
        bool has_answer = ask(host, &answer, &len);
        if (!has_answer) {
            atomic_fetch_add_explicit(&resolver->failures, 1, memory_order_relaxed);
        }
        pthread_mutex_lock(&resolver->mutex);
        if (resolver->is_stopping) {
            break; // the name belongs to resolver_free() now
        }
        name->has_answer = has_answer;
        if (has_answer) {
            name->answer = answer;
            name->len = len;
        }
        name->message.run = on_message;
        name->is_posted = true;
        loop_post(resolver->control, &name->message);
    }
    pthread_mutex_unlock(&resolver->mutex);
    unref(resolver);
    return NULL;
}

static void free_name(struct resolver_name *name)
{
    list_remove(&name->all_node);
    free(name);
}

static void on_message(struct loop *loop, struct loop_message *message)
{
    (void)loop;
    struct resolver_name *name = CONTAINER_OF(message, struct resolver_name, message);
    struct resolver *resolver = name->resolver;
    name->is_posted = false; // the thread has let go of it
    if (name->is_orphan) {
        free(name);
        return;
    }
    if (!name->is_dead && name->has_answer && !resolver->is_stopping) {
        name->on_answer(name->context, (const struct sockaddr *)&name->answer, name->len);
    }
    if (name->is_dead) {
        free_name(name);
        return;
    }
    pthread_mutex_lock(&resolver->mutex);
    name->due_ms = now_ms() + RESOLVER_REFRESH_MS;
    bool was_idle = list_is_empty(&resolver->later);
    list_append(&resolver->later, &name->node);
    if (was_idle) {
        pthread_cond_signal(&resolver->wake);
    }
    pthread_mutex_unlock(&resolver->mutex);
}

int resolver_start(struct resolver *resolver, struct loop *control)
{
    pthread_t thread;
    pthread_attr_t attributes;
    resolver->control = control;
    resolver->refs++;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all; // signals are for the threads that ask for them
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, &attributes, run_thread, resolver);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failed != 0) {
        resolver->refs--;
        return ERR_SYSTEM;
    }
    resolver->is_started = true;
    return 0;
}

void resolver_stop(struct resolver *resolver)
{
    pthread_mutex_lock(&resolver->mutex);
    resolver->is_stopping = true;
    pthread_cond_signal(&resolver->wake);
    pthread_mutex_unlock(&resolver->mutex);
}

void resolver_free(struct resolver **place)
{
    struct resolver *resolver = *place;
    *place = NULL;
    if (resolver == NULL) {
        return;
    }
    resolver_stop(resolver); // with its mutex: what the thread has posted is seen
    LIST_FOR_EACH_SAFE (node, &resolver->all) {
        struct resolver_name *name = CONTAINER_OF(node, struct resolver_name, all_node);
        INVARIANT(name->is_dead);
        if (name->is_posted) { // the mailbox still has it
            list_remove(&name->all_node);
            name->is_orphan = true;
        } else {
            free_name(name);
        }
    }
    unref(resolver);
}

int resolver_watch(struct resolver *resolver, struct str host, resolver_answer *on_answer,
                   void *context, struct resolver_name **out)
{
    if (host.len == 0 || host.len > RESOLVER_NAME_MAX) {
        return ERR_LIMIT;
    }
    struct resolver_name *name = calloc(1, sizeof *name);
    if (name == NULL) {
        return ERR_MEMORY;
    }
    name->resolver = resolver;
    name->on_answer = on_answer;
    name->context = context;
    str_copy(name->host, sizeof name->host, host);
    list_append(&resolver->all, &name->all_node);
    pthread_mutex_lock(&resolver->mutex);
    list_append(&resolver->urgent, &name->node);
    pthread_cond_signal(&resolver->wake);
    pthread_mutex_unlock(&resolver->mutex);
    *out = name;
    return 0;
}

void resolver_unwatch(struct resolver_name **place)
{
    struct resolver_name *name = *place;
    *place = NULL;
    if (name == NULL) {
        return;
    }
    pthread_mutex_lock(&name->resolver->mutex);
    bool is_waiting = !list_is_empty(&name->node);
    list_remove(&name->node);
    name->is_dead = true;
    pthread_mutex_unlock(&name->resolver->mutex);
    if (is_waiting) {
        free_name(name);
    }
}

uint64_t resolver_failure_count(const struct resolver *resolver)
{
    return atomic_load_explicit(&resolver->failures, memory_order_relaxed);
}
