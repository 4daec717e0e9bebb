// SPDX-License-Identifier: MIT
// One connection's TLS: handshake, bytes both ways, the end.
#include "base/invariant.h"
#include "net/tls_int.h"
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <sys/socket.h>

static _Thread_local char failure_text[256];

static struct tls *new_tls(struct loop *loop, struct tls_context *context, struct loop_io *io,
                           struct outq *out, void *user)
{
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL) {
        return NULL;
    }
    tls->loop = loop;
    tls->io = io;
    tls->user = user;
    tls->context = tls_context_ref(context);
    tls->ssl = SSL_new(context->ssl);
    if (tls->ssl == NULL) {
        tls_free(&tls);
        return NULL;
    }
    tls_bio_attach(tls);
    SSL_set_app_data(tls->ssl, tls);
    tls->out = out;
    out->tls = tls;
    return tls;
}

struct tls *tls_new_server(struct loop *loop, struct tls_context *context, struct loop_io *io,
                           struct outq *out, void *user)
{
    struct tls *tls = new_tls(loop, context, io, out, user);
    if (tls != NULL) {
        SSL_set_accept_state(tls->ssl);
        tls_set_scope(tls, &(struct tls_scope){0});
        tls_ticket_begin(tls);
    }
    return tls;
}

// ALPN as it goes over the wire; 0: none.
static unsigned alpn_text(unsigned protocols, unsigned char to[12])
{
    unsigned len = 0;
    if (protocols & 1u << TLS_H2) {
        memcpy(to, "\x02h2", 3);
        len = 3;
    }
    if (protocols & 1u << TLS_HTTP1) {
        memcpy(to + len, "\x08http/1.1", 9);
        len += 9;
    }
    return len;
}

// The name that is asked for, and that the certificate must have: a host or an address.
static bool expect_name(struct tls *tls, struct str server_name)
{
    unsigned char address[16];
    bool verify = tls->context->client.verify;
    if (server_name.len > 1 && server_name.p[server_name.len - 1] == '.') {
        server_name.len--; // as a client may write its Host; neither SNI nor certificates have it
    }
    tls->name = str_dup(server_name);
    if (tls->name == NULL) {
        return false;
    }
    if (inet_pton(AF_INET, tls->name, address) == 1 ||
        inet_pton(AF_INET6, tls->name, address) == 1) {
        return !verify || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls->ssl), tls->name) == 1;
    }
    if (server_name.len > 0 && SSL_set_tlsext_host_name(tls->ssl, tls->name) != 1) {
        return false;
    }
    // Without a name nothing could be verified: an empty one fits no certificate.
    SSL_set_hostflags(tls->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    // Nor one that begins with a dot, which OpenSSL would take for all names below it.
    bool is_name = server_name.len > 0 && tls->name[0] != '.';
    return !verify || SSL_set1_host(tls->ssl, is_name ? tls->name : ".") == 1;
}

struct tls *tls_new_client(struct loop *loop, struct tls_context *context, struct loop_io *io,
                           struct outq *out, struct str server_name, unsigned alpn, void *user)
{
    struct tls *tls = new_tls(loop, context, io, out, user);
    unsigned char protocols[12];
    if (tls == NULL) {
        return NULL;
    }
    SSL_set_connect_state(tls->ssl);
    unsigned len = alpn_text(alpn, protocols);
    if (!expect_name(tls, server_name) ||
        (len > 0 && SSL_set_alpn_protos(tls->ssl, protocols, len) != 0)) {
        tls_free(&tls);
        return NULL;
    }
    tls_session_offer(tls);
    return tls;
}

static void abandon(struct tls *tls)
{
    const struct tls_context *context = tls->context;
    if (!tls->is_suspended) {
        return;
    }
    tls->is_suspended = false;
    if (context->is_server && context->hooks != NULL && context->hooks->on_abandoned != NULL) {
        context->hooks->on_abandoned(tls, tls->user);
    } else if (!context->is_server && context->client.on_abandoned != NULL) {
        context->client.on_abandoned(tls, context->client.owner);
    }
}

void tls_free(struct tls **place)
{
    struct tls *tls = *place;
    *place = NULL;
    if (tls == NULL) {
        return;
    }
    INVARIANT(!tls->in_hook);
    abandon(tls);
    if (tls->out != NULL) {
        tls->out->tls = NULL;
        tls->out = NULL;
    }
    if (tls->ssl != NULL && !tls->is_broken) {
        // Else OpenSSL forgets the session of a connection that ends without close_notify.
        SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(tls->ssl);
    tls_context_unref(&tls->context);
    free(tls->held);
    free(tls->name);
    free(tls);
}

void tls_move(struct tls *tls, struct loop_io *io, struct outq *out)
{
    tls->io = io;
    tls->out = out;
    out->tls = tls;
}

struct loop *tls_loop(const struct tls *tls)
{
    return tls->loop;
}

void tls_set_waiting(struct tls *tls, void *waiting)
{
    tls->waiting = waiting;
}

void *tls_waiting(const struct tls *tls)
{
    return tls->waiting;
}

bool tls_is_suspended(const struct tls *tls)
{
    return tls->is_suspended;
}

bool tls_is_truncated(const struct tls *tls)
{
    return tls->is_eof && !tls->got_end;
}

void tls_on_resumed(struct tls *tls, void (*on_resumed)(struct tls *tls, void *user))
{
    tls->on_resumed = on_resumed;
}

void tls_resume(struct tls *tls)
{
    INVARIANT(!tls->in_hook);
    if (!tls->is_suspended) {
        return;
    }
    tls->is_suspended = false;
    if (tls->on_resumed != NULL) {
        tls->on_resumed(tls, tls->user);
    }
}

// Without verification the result is there all the same, and means nothing.
static bool is_unverified(const struct tls *tls)
{
    return (SSL_get_verify_mode(tls->ssl) & SSL_VERIFY_PEER) &&
           SSL_get_verify_result(tls->ssl) != X509_V_OK;
}

static void note_failure(struct tls *tls)
{
    unsigned long error = ERR_peek_last_error();
    const char *reason = error == 0 ? NULL : ERR_reason_error_string(error);
    if (is_unverified(tls)) {
        reason = X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
    }
    if (reason == NULL) {
        reason = tls->io_errno != 0 ? strerror(tls->io_errno) : "the connection was closed";
    }
    str_copy(failure_text, sizeof failure_text, str_from_c(reason));
}

const char *tls_failure(const struct tls *tls)
{
    (void)tls;
    return failure_text;
}

// ---- handshake ----

static int handshake_failed(struct tls *tls, int error)
{
    if (error == SSL_ERROR_WANT_READ && !tls->is_eof) {
        return STEP_AGAIN;
    }
    if (error == SSL_ERROR_WANT_X509_LOOKUP || error == SSL_ERROR_WANT_CLIENT_HELLO_CB) {
        tls->is_suspended = true;
        return STEP_AGAIN;
    }
    tls->is_broken = true;
    note_failure(tls);
    if (is_unverified(tls)) {
        return ERR_TLS_VERIFY;
    }
    return tls->is_eof && error != SSL_ERROR_SSL ? ERR_CLOSED : ERR_TLS;
}

// Drops what only handshakes need: a certificate that was replaced is not kept by the connections that
// were made with it.
static void established(struct tls *tls)
{
    tls->is_established = true;
    SSL_certs_clear(tls->ssl);
    if (tls->context->is_server) {
        SSL_set0_CA_list(tls->ssl, NULL);
    }
}

int tls_handshake(struct tls *tls, bool *is_drained)
{
    INVARIANT(!tls->in_hook);
    *is_drained = false;
    if (tls->is_broken) {
        return ERR_TLS;
    }
    if (tls->is_established) {
        return STEP_DONE;
    }
    if (tls->is_suspended) {
        return STEP_AGAIN; // nobody is asked twice
    }
    tls_io_begin(tls, true);
    int result = SSL_do_handshake(tls->ssl);
    int step = STEP_DONE;
    if (result == 1) {
        established(tls);
    } else {
        step = handshake_failed(tls, SSL_get_error(tls->ssl, result));
    }
    tls_io_end(tls, false);
    // What is held has to be looked at before the socket is.
    *is_drained = tls->is_drained && tls->held == NULL;
    return step >= 0 && tls->is_broken ? ERR_TLS : step; // no memory for what is held
}

// ---- bytes ----

// -1 with errno, or 0 for the end.
static ssize_t recv_ended(struct tls *tls, int error)
{
    switch (error) {
    case SSL_ERROR_WANT_READ:
        if (!tls->is_eof && !tls->is_broken) {
            errno = EAGAIN;
            return -1;
        }
        break;
    case SSL_ERROR_ZERO_RETURN:
        if (tls->io_errno == 0) {
            return 0;
        }
        break;
    default:
        note_failure(tls);
        break;
    }
    tls->is_broken = true;
    errno = tls->io_errno != 0 ? tls->io_errno : EPROTO;
    return -1;
}

// Plain bytes of what is here, and the error of the last SSL_read. No error: there may be more, or *is_all.
static size_t read_all(struct tls *tls, char *to, size_t len, int *error, bool *is_all)
{
    bool may_read_more = tls->held != NULL; // they alone may be no whole record
    size_t total = 0;
    *error = SSL_ERROR_NONE;
    *is_all = false;
    while (total < len && !*is_all) {
        size_t room = len - total;
        int n = SSL_read(tls->ssl, to + total, room > INT32_MAX ? INT32_MAX : (int)room);
        if (n > 0) {
            total += (size_t)n;
            *is_all = !tls_io_has_more(tls) && SSL_pending(tls->ssl) == 0;
            continue;
        }
        *error = SSL_get_error(tls->ssl, n);
        if (*error != SSL_ERROR_WANT_READ || total > 0 || !may_read_more) {
            break;
        }
        may_read_more = false;
        tls->may_read = true;
    }
    return total;
}

// Each small record may ask for an answer: a peer that does nothing else would fill the memory that all outputs
// share, or have keys made for as long as it likes.
static void count_answers(struct tls *tls, size_t plain_len)
{
    size_t len = tls->loop->tls_buffers->out_len;
    if (plain_len > 0 && tls->out != NULL && tls->out->queued == 0) {
        tls->answers = 0;
    }
    tls->answers += (uint32_t)len;
    if (tls->answers > TLS_ANSWERS_MAX) {
        tls->is_broken = true;
    }
}

ssize_t tls_recv(struct tls *tls, char *to, size_t len, bool *is_drained)
{
    INVARIANT(!tls->in_hook);
    if (tls->is_broken) {
        *is_drained = true;
        errno = EPROTO;
        return -1;
    }
    int error;
    bool is_all;
    // With much that is held a read on top of it could bring more than there is room for.
    tls_io_begin(tls, tls->held == NULL);
    size_t total = read_all(tls, to, len, &error, &is_all);
    tls->got_end = tls->got_end || (error == SSL_ERROR_ZERO_RETURN && !tls->is_eof);
    count_answers(tls, total);
    tls_io_end(tls, false);
    // The end, and what could not be read for lack of room, are told by the next call.
    is_all = is_all || error == SSL_ERROR_WANT_READ || (error != SSL_ERROR_NONE && total == 0);
    *is_drained = tls->is_drained && is_all && !tls->is_broken;
    if (total > 0) {
        return (ssize_t)total;
    }
    return recv_ended(tls, error);
}

ssize_t net_recv(struct loop_io *io, struct tls *tls, char *to, size_t len, bool *is_drained)
{
    if (tls != NULL) {
        return tls_recv(tls, to, len, is_drained);
    }
    ssize_t n;
    do {
        n = recv(io->fd, to, len, 0);
    } while (n < 0 && errno == EINTR);
    *is_drained = n < 0 || (size_t)n < len;
    return n;
}

struct cursor {
    const struct iovec *iov;
    unsigned left; // pieces
    size_t skip;   // of the first
};

static void advance(struct cursor *at, size_t len)
{
    at->skip += len;
    while (at->left > 0 && at->skip >= at->iov->iov_len) {
        at->skip -= at->iov->iov_len;
        at->iov++;
        at->left--;
    }
}

// The next bytes that make one record: of one piece if it is large, else collected.
static struct str next_record(struct tls_buffers *buffers, struct cursor *at)
{
    const char *p = (const char *)at->iov->iov_base + at->skip;
    size_t have = at->iov->iov_len - at->skip;
    if (have >= TLS_RECORD_MAX || at->left == 1) {
        struct str record = str_make(p, have < TLS_RECORD_MAX ? have : TLS_RECORD_MAX);
        advance(at, record.len);
        return record;
    }
    size_t len = 0;
    while (at->left > 0 && len < TLS_RECORD_MAX) {
        p = (const char *)at->iov->iov_base + at->skip;
        have = at->iov->iov_len - at->skip;
        size_t part = have < TLS_RECORD_MAX - len ? have : TLS_RECORD_MAX - len;
        memcpy(buffers->plain + len, p, part);
        len += part;
        advance(at, part);
    }
    return str_make(buffers->plain, len);
}

ssize_t tls_seal(struct tls *tls, const struct iovec *iov, unsigned count, size_t skip,
                 struct str *wire)
{
    struct tls_buffers *buffers = tls->loop->tls_buffers;
    struct cursor at = {iov, count, 0};
    size_t total = 0;
    *wire = STR_NULL;
    if (tls->is_broken || !tls->is_established || tls->end_sealed) {
        return -1;
    }
    advance(&at, skip);
    tls_io_begin(tls, false);
    while (at.left > 0 && TLS_WIRE_OUT - buffers->out_len >= TLS_RECORD_MAX + TLS_RECORD_OVERHEAD) {
        struct str record = next_record(buffers, &at);
        if (record.len == 0) {
            break;
        }
        int n = SSL_write(tls->ssl, record.p, (int)record.len);
        if (n != (int)record.len) {
            tls->is_broken = true;
            note_failure(tls);
            break;
        }
        total += record.len;
    }
    tls_io_end(tls, true);
    *wire = str_make(buffers->out, buffers->out_len);
    return tls->is_broken ? -1 : (ssize_t)total;
}

struct str tls_seal_end(struct tls *tls)
{
    struct tls_buffers *buffers = tls->loop->tls_buffers;
    if (tls->end_sealed || !tls->is_established || tls->is_broken) {
        return STR_NULL;
    }
    tls->end_sealed = true;
    tls_io_begin(tls, false);
    (void)SSL_shutdown(tls->ssl);
    tls_io_end(tls, true);
    return str_make(buffers->out, buffers->out_len);
}
