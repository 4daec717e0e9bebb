// SPDX-License-Identifier: MIT
#include "serve/security.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/rcu.h"
#include "publish/tickets.h"
#include "serve/reseal.h"
#include <stdlib.h>

enum {
    TICKETS_LOOK_MS = 3600 * 1000, // how often is looked whether new ticket keys are due
    TICKETS_RETRY_MS = 5000,       // after they could not be stored
};

struct security {
    const struct config *config;
    struct store *store;
    struct loop *control;
    struct seal *seal;
    struct store_reader *reader; // the certificate thread's
    struct cert_table *certs;
    struct tls_context *origin_tls;
    struct tls_ticket_ring tickets;
    struct loop_timer ticket_timer;
    struct reseal *reseal;
    bool is_ticket_warned;
    bool is_stopped; // its timer stays off
};

static int fetch(void *context, struct str name, struct buf *secret)
{
    const struct security *security = context;
    return store_reader_secret(security->reader, NOUN_CERTIFICATE, name, secret);
}

// Next to the node's own file of declarations.
static char *own_certificate_path(const struct config *config)
{
    static const char name[] = "default-certificate.pem";
    struct str local = str_from_c(config->store.local);
    size_t slash = str_rfind_char(local, '/');
    size_t folder = slash == SIZE_MAX ? 0 : slash + 1;
    char *path = malloc(folder + sizeof name);
    if (path != NULL) {
        memcpy(path, local.p, folder);
        memcpy(path + folder, name, sizeof name);
    }
    return path;
}

static int open_certs(struct security *security, const struct config *config,
                      struct problems *problems)
{
    bool is_given = config->tls.default_certificate[0] != '\0';
    char *own = is_given ? NULL : own_certificate_path(config);
    if (!is_given && own == NULL) {
        return ERR_MEMORY;
    }
    const struct cert_table_config table = {
        .loaded_max = config->limits.certificates_loaded,
        .waits_max = config->limits.certificate_waits,
        .seal = security->seal,
        .loader = {fetch, security},
        .default_file = is_given ? config->tls.default_certificate : own,
        .default_key_file =
            is_given && config->tls.default_key[0] != '\0' ? config->tls.default_key : NULL,
        .default_is_given = is_given,
    };
    rcu_thread_begin();
    int err = cert_table_new(&security->certs, &table, problems);
    rcu_thread_end();
    free(own);
    return err;
}

int security_new(struct security **out, const struct config *config, struct store *store,
                 struct problems *problems)
{
    struct security *security = calloc(1, sizeof *security);
    *out = security;
    if (security == NULL) {
        return problems_add(problems, ERR_MEMORY, "", "%s", err_text(ERR_MEMORY));
    }
    security->config = config;
    security->store = store;
    const struct tls_client_config origin = {.profile = TLS_INTERMEDIATE, .verify = true};
    int err = seal_open_file(&security->seal, config->store.encryption_key_file, problems);
    if (err == 0) {
        err = store_reader_open(store, &security->reader);
    }
    if (err == 0) {
        err = open_certs(security, config, problems);
    }
    if (err == 0) {
        err = tls_client_context_new(&security->origin_tls, &origin);
    }
    return err == 0 || problems->count > 0
               ? err
               : problems_add(problems, err, "tls", "%s", err_text(err));
}

static void on_tickets_stored(struct store_request *request)
{
    struct security *security = request->context;
    int err = request->err;
    store_request_free(&request);
    if (err == 0 || err == ERR_PRECONDITION) { // another node was faster
        security->is_ticket_warned = false;
        return;
    }
    if (!security->is_ticket_warned) {
        log_warning("no new session ticket keys could be stored, it is tried again: %s",
                    err_text(err));
    }
    security->is_ticket_warned = true;
    if (!security->is_stopped) {
        loop_timer_set(security->control, &security->ticket_timer, TICKETS_RETRY_MS);
    }
}

// New keys go through the store, so that all workers, and all nodes of a fleet, have the same.
static void on_tickets_due(struct loop *loop, struct loop_timer *timer)
{
    struct security *security = CONTAINER_OF(timer, struct security, ticket_timer);
    struct store_request *request = NULL;
    int err = tickets_rotate(security->store, security->seal, loop->real_ns / NS_PER_SEC, &request);
    if (err != 0) {
        log_warning("no new session ticket keys: %s", err_text(err));
    } else if (request != NULL) {
        request->loop = loop;
        request->on_done = on_tickets_stored;
        request->context = security;
        store_submit(security->store, &request);
    }
    loop_timer_set(loop, timer, TICKETS_LOOK_MS);
}

int security_start(struct security *security, struct loop *control)
{
    security->control = control;
    loop_timer_init(&security->ticket_timer, on_tickets_due);
    int err = cert_table_start(security->certs);
    if (err == 0) {
        err = reseal_start(&security->reseal, control, security->store, security->seal);
    }
    if (err == 0 && security->config->listen.https_count > 0) { // who seals none needs no keys
        on_tickets_due(control, &security->ticket_timer);
    }
    return err;
}

void security_stop(struct security *security)
{
    if (security == NULL) {
        return;
    }
    security->is_stopped = true;
    if (security->control != NULL) {
        loop_timer_cancel(security->control, &security->ticket_timer);
    }
    if (security->certs != NULL) {
        cert_table_stop(security->certs);
    }
}

void security_close_store(struct security *security)
{
    if (security != NULL) {
        reseal_free(&security->reseal);
        store_reader_close(&security->reader);
    }
}

void security_free(struct security **place)
{
    struct security *security = *place;
    *place = NULL;
    if (security == NULL) {
        return;
    }
    tls_context_unref(&security->origin_tls);
    if (security->certs != NULL) {
        rcu_drain(); // what was retired may still name its slots
        cert_table_free(&security->certs);
    }
    seal_free(&security->seal);
    free(security);
}

struct cert_table *security_certs(const struct security *security)
{
    return security->certs;
}

const struct seal *security_seal(const struct security *security)
{
    return security->seal;
}

struct tls_ticket_ring *security_tickets(struct security *security)
{
    return &security->tickets;
}

struct tls_context *security_origin_tls(const struct security *security)
{
    return security->origin_tls;
}
