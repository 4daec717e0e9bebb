// SPDX-License-Identifier: MIT
// OpenSSL's way to the socket, on buffers that the connections of a loop share.
#include "net/tls_int.h"
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

int tls_loop_init(struct loop *loop)
{
    (void)tls_memory_kept(); // so that a program that links the one file has the other
    loop->tls_buffers = calloc(1, sizeof *loop->tls_buffers);
    return loop->tls_buffers == NULL ? ERR_MEMORY : 0;
}

void tls_loop_fini(struct loop *loop)
{
    free(loop->tls_buffers);
    loop->tls_buffers = NULL;
}

static size_t take(char *to, size_t len, const char *from, size_t have)
{
    size_t part = len < have ? len : have;
    memcpy(to, from, part);
    return part;
}

// One read of a call, into the shared buffer. False: nothing came.
static bool fill(struct tls *tls, struct tls_buffers *buffers)
{
    if (!tls->may_read || tls->is_eof) {
        return false;
    }
    tls->may_read = false;
    ssize_t n;
    do {
        n = recv(tls->io->fd, buffers->in, TLS_WIRE_IN, 0);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        buffers->in_owner = tls;
        buffers->in_start = 0;
        buffers->in_end = (size_t)n;
        tls->is_drained = n < TLS_WIRE_IN;
        return true;
    }
    tls->is_drained = true;
    if (n == 0) {
        tls->is_eof = true;
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        tls->is_eof = true;
        tls->io_errno = errno;
    }
    return false;
}

static int bio_read(BIO *bio, char *to, int len)
{
    struct tls *tls = BIO_get_data(bio);
    struct tls_buffers *buffers = tls->loop->tls_buffers;
    BIO_clear_retry_flags(bio);
    if (len <= 0) {
        return 0;
    }
    if (tls->held != NULL) {
        size_t part =
            take(to, (size_t)len, tls->held + tls->held_start, tls->held_end - tls->held_start);
        tls->held_start += (uint32_t)part;
        if (tls->held_start == tls->held_end) {
            free(tls->held);
            tls->held = NULL;
        }
        return (int)part;
    }
    bool is_here = buffers->in_owner == tls && buffers->in_start < buffers->in_end;
    if (!is_here && !fill(tls, buffers)) {
        if (tls->is_eof) {
            return 0;
        }
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t part =
        take(to, (size_t)len, buffers->in + buffers->in_start, buffers->in_end - buffers->in_start);
    buffers->in_start += part;
    return (int)part;
}

static int bio_write(BIO *bio, const char *from, int len)
{
    struct tls *tls = BIO_get_data(bio);
    struct tls_buffers *buffers = tls->loop->tls_buffers;
    BIO_clear_retry_flags(bio);
    if (len <= 0) {
        return 0;
    }
    if ((size_t)len > TLS_WIRE_OUT - buffers->out_len) {
        return -1; // more than a record at once, or nobody has taken what is there
    }
    memcpy(buffers->out + buffers->out_len, from, (size_t)len);
    buffers->out_len += (size_t)len;
    return len;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    struct tls *tls = BIO_get_data(bio);
    switch (command) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_EOF:
        return tls != NULL && tls->is_eof;
    default:
        return 0;
    }
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pointsman");
    if (method != NULL) {
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_ctrl);
        BIO_meth_set_create(method, bio_create);
    }
}

int tls_bio_attach(struct tls *tls)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_method);
    BIO *bio = method == NULL ? NULL : BIO_new(method);
    if (bio == NULL) {
        return ERR_MEMORY;
    }
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    return 0;
}

void tls_io_begin(struct tls *tls, bool may_read)
{
    struct tls_buffers *buffers = tls->loop->tls_buffers;
    ERR_clear_error();
    tls->may_read = may_read;
    tls->is_drained = false;
    buffers->in_owner = NULL;
    buffers->out_len = 0;
}

bool tls_io_has_more(const struct tls *tls)
{
    const struct tls_buffers *buffers = tls->loop->tls_buffers;
    return tls->may_read || tls->held != NULL ||
           (buffers->in_owner == tls && buffers->in_start < buffers->in_end);
}

// Wire bytes behind those that are held already.
static bool hold(struct tls *tls, const char *bytes, size_t len)
{
    size_t have = tls->held == NULL ? 0 : tls->held_end - tls->held_start;
    char *held = len + have > TLS_HELD_MAX ? NULL : malloc(len + have);
    if (held == NULL) {
        return false;
    }
    if (have > 0) {
        memcpy(held, tls->held + tls->held_start, have);
    }
    memcpy(held + have, bytes, len);
    free(tls->held);
    tls->held = held;
    tls->held_start = 0;
    tls->held_end = (uint32_t)(have + len);
    return true;
}

int tls_feed(struct tls *tls, struct str bytes)
{
    return bytes.len == 0 || hold(tls, bytes.p, bytes.len) ? 0 : ERR_MEMORY;
}

void tls_io_end(struct tls *tls, bool seals)
{
    struct tls_buffers *buffers = tls->loop->tls_buffers;
    if (buffers->in_owner == tls && buffers->in_start < buffers->in_end) {
        if (!hold(tls, buffers->in + buffers->in_start, buffers->in_end - buffers->in_start)) {
            tls->is_broken = true;
            tls->io_errno = ENOMEM;
        }
    }
    buffers->in_owner = NULL;
    if (!seals && buffers->out_len > 0 && tls->out != NULL) {
        size_t len = buffers->out_len;
        buffers->out_len = 0;
        outq_put_wire(tls->loop, tls->out, str_make(buffers->out, len));
    }
}
