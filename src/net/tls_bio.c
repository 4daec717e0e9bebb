// SPDX-License-Identifier: MIT
// OpenSSL's way to the socket, on buffers that the connections of a loop share.
#include "net/tls_int.h"
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

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
    struct tls_buffers *buffers = BIO_get_data(bio);
    struct tls *tls = buffers->current;
    BIO_clear_retry_flags(bio);
    if (len <= 0 || tls == NULL) {
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
    if (buffers->in_start == buffers->in_end && !fill(tls, buffers)) {
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
    struct tls_buffers *buffers = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (len <= 0 || buffers->current == NULL) {
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
    const struct tls_buffers *buffers = BIO_get_data(bio);
    switch (command) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_EOF:
        return buffers->current != NULL && buffers->current->is_eof;
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

int tls_loop_init(struct loop *loop)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)tls_memory_kept(); // so that a program that links the one file has the other
    pthread_once(&once, make_method);
    struct tls_buffers *buffers = calloc(1, sizeof *buffers);
    BIO *bio = method == NULL ? NULL : BIO_new(method);
    if (buffers == NULL || bio == NULL) {
        free(buffers);
        BIO_free(bio);
        return ERR_MEMORY;
    }
    BIO_set_data(bio, buffers);
    buffers->bio = bio;
    loop->tls_buffers = buffers;
    return 0;
}

void tls_loop_fini(struct loop *loop)
{
    if (loop->tls_buffers != NULL) {
        BIO_free(loop->tls_buffers->bio);
        free(loop->tls_buffers);
        loop->tls_buffers = NULL;
    }
}

void tls_bio_attach(struct tls *tls)
{
    BIO *bio = tls->loop->tls_buffers->bio;
    BIO_up_ref(bio);
    SSL_set_bio(tls->ssl, bio, bio);
}

void tls_io_begin(struct tls *tls, bool may_read)
{
    struct tls_buffers *buffers = tls->loop->tls_buffers;
    ERR_clear_error();
    tls->may_read = may_read;
    tls->is_drained = false;
    buffers->current = tls;
    buffers->in_start = 0;
    buffers->in_end = 0;
    buffers->out_len = 0;
}

bool tls_io_has_more(const struct tls *tls)
{
    const struct tls_buffers *buffers = tls->loop->tls_buffers;
    return tls->may_read || tls->held != NULL || buffers->in_start < buffers->in_end;
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
    size_t left = buffers->in_end - buffers->in_start;
    if (left > 0 && !hold(tls, buffers->in + buffers->in_start, left)) {
        tls->is_broken = true;
        tls->io_errno = ENOMEM;
    }
    buffers->current = NULL;
    if (!seals && buffers->out_len > 0 && tls->out != NULL) {
        size_t len = buffers->out_len;
        buffers->out_len = 0;
        outq_put_wire(tls->loop, tls->out, str_make(buffers->out, len));
    }
}
