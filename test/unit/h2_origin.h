// SPDX-License-Identifier: MIT
// An origin that speaks HTTP/2 (nghttp2's server side), over TLS or not, in the test's own thread: it is
// polled whenever the test waits. What it answers depends on the path; see answer().
#pragma once
#include "base/buf.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

enum { ORIGIN_CONNS = 128, ORIGIN_STREAMS = 256, ORIGIN_BIG = 1 << 20 };

struct origin;

struct origin_stream {
    int32_t id;
    char method[16];
    char path[64];
    struct buf fields; // "name: value\n" of the request head
    struct buf body;
    size_t left;  // of a made up body
    size_t sent;  // of an echo
    bool ended;   // END_STREAM of the client came
    bool is_echo; // sends back what comes
    bool finish;  // an echo: everything has come
    bool trailers;
    uint32_t closed; // its error code + 1
};

struct origin_conn {
    struct origin *origin;
    int fd;
    SSL *ssl;
    bool is_shaken;
    bool is_h1; // ALPN
    bool ended; // by the client
    nghttp2_session *session;
    struct buf out;
    struct buf raw; // everything that came, if not h2
    struct origin_stream streams[ORIGIN_STREAMS];
    unsigned stream_count;
};

struct origin {
    int listener;
    struct sockaddr_in address;
    SSL_CTX *tls;
    bool alpn_h1; // chooses http/1.1
    bool no_alpn;
    bool is_raw;          // sends nothing, keeps what comes
    bool deaf;            // does not read
    uint32_t max_streams; // 0: not told
    uint32_t window;      // 0: the default
    bool takes_connect;
    bool silent; // no SETTINGS
    struct origin_conn *conns[ORIGIN_CONNS];
    unsigned conn_count;
    unsigned request_count;
};

static inline void origin_listen(struct origin *o)
{
    memset(o, 0, sizeof *o);
    signal(SIGPIPE, SIG_IGN); // of SSL_write()
    socklen_t len = sizeof o->address;
    o->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    o->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(o->listener, (struct sockaddr *)&o->address, len), 0);
    assert_int_equal(listen(o->listener, ORIGIN_CONNS), 0);
    assert_int_equal(getsockname(o->listener, (struct sockaddr *)&o->address, &len), 0);
}

static inline struct origin_stream *origin_stream(struct origin_conn *c, int32_t id)
{
    for (unsigned i = 0; i < c->stream_count; i++) {
        if (c->streams[i].id == id) {
            return &c->streams[i];
        }
    }
    return NULL;
}

static inline ssize_t origin_read_body(nghttp2_session *session, int32_t id, uint8_t *to,
                                       size_t len, uint32_t *flags, nghttp2_data_source *source,
                                       void *user)
{
    (void)source;
    struct origin_stream *s = origin_stream(user, id);
    size_t n = s->is_echo ? s->body.len - s->sent : s->left;
    n = n < len ? n : len;
    if (s->is_echo) {
        if (n == 0 && !s->finish) {
            return NGHTTP2_ERR_DEFERRED;
        }
        if (n > 0) {
            memcpy(to, s->body.p + s->sent, n);
        }
        s->sent += n;
    } else {
        memset(to, 'x', n);
        s->left -= n;
    }
    if (s->is_echo ? s->finish && s->sent == s->body.len : s->left == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            nghttp2_nv nv = {(uint8_t *)"grpc-status", (uint8_t *)"0", 11, 1, 0};
            nghttp2_submit_trailer(session, id, &nv, 1);
        }
    }
    return (ssize_t)n;
}

#define ORIGIN_NV(name, value)                                                        \
    {                                                                                 \
        (uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1, 0 \
    }

static inline void origin_respond(struct origin_conn *c, struct origin_stream *s, bool has_body,
                                  const char *status, const char *length)
{
    nghttp2_nv nv[] = {
        {(uint8_t *)":status", (uint8_t *)(uintptr_t)status, 7, 3, 0},
        ORIGIN_NV("content-type", "text/plain"),
        {(uint8_t *)"content-length", (uint8_t *)(uintptr_t)length, 14,
         length == NULL ? 0 : strlen(length), 0},
    };
    nghttp2_data_provider provider = {.read_callback = origin_read_body};
    assert_int_equal(nghttp2_submit_response(c->session, s->id, nv, length == NULL ? 2 : 3,
                                             has_body ? &provider : NULL),
                     0);
}

static inline void origin_answer(struct origin_conn *c, struct origin_stream *s)
{
    const char *path = s->path;
    c->origin->request_count++;
    if (strcmp(path, "/ok") == 0) {
        s->left = 2;
        origin_respond(c, s, true, "200", "2");
    } else if (strcmp(path, "/big") == 0) {
        s->left = ORIGIN_BIG;
        origin_respond(c, s, true, "200", NULL);
    } else if (strcmp(path, "/none") == 0) {
        origin_respond(c, s, false, "204", NULL);
    } else if (strcmp(path, "/head") == 0) {
        origin_respond(c, s, false, "200", "77");
    } else if (strcmp(path, "/short") == 0) {
        s->left = 1;
        origin_respond(c, s, true, "200", "2"); // less than it says
    } else if (strcmp(path, "/refused-short") == 0) {
        s->left = 1;
        origin_respond(c, s, true, "403", "5");
    } else if (strcmp(path, "/refused-long") == 0) {
        s->left = 5;
        origin_respond(c, s, true, "403", "1");
    } else if (strcmp(path, "/refused-bare") == 0) {
        origin_respond(c, s, false, "403", "5");
    } else if (strcmp(path, "/refused") == 0) {
        s->left = 5;
        origin_respond(c, s, true, "403", "5");
    } else if (strcmp(path, "/echo") == 0) {
        s->is_echo = true;
        s->trailers = true;
        origin_respond(c, s, true, "200", NULL);
    } else if (strcmp(path, "/ws") == 0) {
        s->is_echo = true;
        origin_respond(c, s, true, "200", NULL);
    } else if (strcmp(path, "/trailers-only") == 0) {
        nghttp2_nv nv[] = {ORIGIN_NV(":status", "200"), ORIGIN_NV("grpc-status", "5")};
        nghttp2_submit_response(c->session, s->id, nv, 2, NULL);
    } else if (strcmp(path, "/info") == 0) {
        nghttp2_nv nv[] = {ORIGIN_NV(":status", "103"), ORIGIN_NV("link", "</a>")};
        nghttp2_submit_headers(c->session, 0, s->id, NULL, nv, 2, NULL);
        s->left = 2;
        origin_respond(c, s, true, "200", NULL);
    } else if (strcmp(path, "/refuse") == 0) {
        nghttp2_submit_rst_stream(c->session, 0, s->id, NGHTTP2_REFUSED_STREAM);
    } else if (strcmp(path, "/reset") == 0) {
        nghttp2_submit_rst_stream(c->session, 0, s->id, NGHTTP2_INTERNAL_ERROR);
    } else if (strcmp(path, "/goaway") == 0) {
        // All up to this one are answered, those after it were not looked at.
        nghttp2_submit_goaway(c->session, 0, s->id, NGHTTP2_NO_ERROR, NULL, 0);
        s->left = 2;
        origin_respond(c, s, true, "200", NULL);
    } // "/hold": nothing
}

static inline int origin_on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    struct origin_conn *c = user;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        assert_true(c->stream_count < ORIGIN_STREAMS);
        struct origin_stream *s = &c->streams[c->stream_count++];
        memset(s, 0, sizeof *s);
        s->id = frame->hd.stream_id;
        buf_init(&s->fields, 0);
        buf_init(&s->body, 0);
    }
    return 0;
}

static inline int origin_on_header(nghttp2_session *session, const nghttp2_frame *frame,
                                   const uint8_t *name, size_t name_len, const uint8_t *value,
                                   size_t value_len, uint8_t flags, void *user)
{
    (void)session;
    (void)flags;
    struct origin_stream *s = origin_stream(user, frame->hd.stream_id);
    struct str n = str_make((const char *)name, name_len);
    struct str v = str_make((const char *)value, value_len);
    if (str_eq(n, STR(":path"))) {
        str_copy(s->path, sizeof s->path, v);
    } else if (str_eq(n, STR(":method"))) {
        str_copy(s->method, sizeof s->method, v);
    }
    buf_printf(&s->fields, "%.*s: %.*s\n", STR_ARG(n), STR_ARG(v));
    return 0;
}

static inline int origin_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct origin_conn *c = user;
    struct origin_stream *s =
        frame->hd.stream_id == 0 ? NULL : origin_stream(c, frame->hd.stream_id);
    if (s == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        origin_answer(c, s);
    }
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        s->ended = true;
        s->finish = true;
        nghttp2_session_resume_data(session, s->id);
    }
    return 0;
}

static inline int origin_on_data(nghttp2_session *session, uint8_t flags, int32_t id,
                                 const uint8_t *data, size_t len, void *user)
{
    (void)flags;
    struct origin_stream *s = origin_stream(user, id);
    buf_put(&s->body, str_make((const char *)data, len));
    if (s->is_echo) {
        nghttp2_session_resume_data(session, id);
    }
    return 0;
}

static inline int origin_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    (void)session;
    struct origin_stream *s = origin_stream(user, id);
    if (s != NULL) {
        s->closed = code + 1;
    }
    return 0;
}

static inline void origin_begin_h2(struct origin_conn *c)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, origin_on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, origin_on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, origin_on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, origin_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, origin_on_close);
    nghttp2_session_server_new(&c->session, callbacks, c);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_settings_entry entries[3];
    size_t count = 0;
    if (c->origin->max_streams != 0) {
        entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                                    c->origin->max_streams};
    }
    if (c->origin->window != 0) {
        entries[count++] =
            (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->origin->window};
    }
    if (c->origin->takes_connect) {
        entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
    }
    nghttp2_submit_settings(c->session, 0, entries, count);
}

static inline int origin_choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                                     const unsigned char *in, unsigned in_len, void *user)
{
    (void)ssl;
    struct origin *o = user;
    const char *wanted = o->alpn_h1 ? "\x08http/1.1" : "\x02h2";
    if (o->no_alpn) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, (const unsigned char *)wanted,
                              (unsigned)strlen(wanted), in, in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static inline void origin_use_tls(struct origin *o, X509 *leaf, EVP_PKEY *key)
{
    o->tls = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(o->tls, leaf), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(o->tls, key), 1);
    SSL_CTX_set_alpn_select_cb(o->tls, origin_choose_alpn, o);
}

static inline ssize_t origin_recv(struct origin_conn *c, char *to, size_t len)
{
    if (c->ssl == NULL) {
        return recv(c->fd, to, len, MSG_DONTWAIT);
    }
    ERR_clear_error();
    int n = SSL_read(c->ssl, to, (int)len);
    if (n > 0) {
        return n;
    }
    int error = SSL_get_error(c->ssl, n);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }
    return 0;
}

static inline void origin_flush(struct origin_conn *c)
{
    while (c->out.len > 0) {
        ssize_t n = c->ssl == NULL ? send(c->fd, c->out.p, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT)
                                   : SSL_write(c->ssl, c->out.p, (int)c->out.len);
        if (n <= 0) {
            return;
        }
        memmove(c->out.p, c->out.p + n, c->out.len - (size_t)n);
        c->out.len -= (size_t)n;
    }
}

static inline void origin_accept(struct origin *o)
{
    int fd = accept4(o->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    assert_true(o->conn_count < ORIGIN_CONNS);
    struct origin_conn *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->origin = o;
    c->fd = fd;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    buf_init(&c->out, 0);
    buf_init(&c->raw, 0);
    if (o->tls != NULL) {
        c->ssl = SSL_new(o->tls);
        SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_set_fd(c->ssl, fd);
    }
    o->conns[o->conn_count++] = c;
}

static inline void origin_shake(struct origin_conn *c)
{
    if (c->ssl != NULL && SSL_accept(c->ssl) != 1) {
        return;
    }
    c->is_shaken = true;
    const unsigned char *alpn = NULL;
    unsigned len = 0;
    if (c->ssl != NULL) {
        SSL_get0_alpn_selected(c->ssl, &alpn, &len);
    }
    c->is_h1 = c->origin->is_raw || (c->ssl != NULL && (len != 2 || memcmp(alpn, "h2", 2) != 0));
    if (!c->is_h1 && !c->origin->silent) {
        origin_begin_h2(c);
    }
}

static inline void origin_poll_conn(struct origin_conn *c)
{
    char bytes[16384];
    if (c->fd < 0) {
        return;
    }
    if (!c->is_shaken) {
        origin_shake(c);
    }
    ssize_t n;
    while (c->is_shaken && !c->origin->deaf && (n = origin_recv(c, bytes, sizeof bytes)) >= 0) {
        if (n == 0) {
            c->ended = true;
            break;
        }
        if (c->session == NULL) {
            buf_put(&c->raw, str_make(bytes, (size_t)n));
        } else {
            nghttp2_session_mem_recv(c->session, (uint8_t *)bytes, (size_t)n);
        }
    }
    while (c->session != NULL && c->out.len < 1 << 16) {
        const uint8_t *out;
        n = nghttp2_session_mem_send(c->session, &out);
        if (n <= 0) {
            break;
        }
        buf_put(&c->out, str_make((const char *)out, (size_t)n));
    }
    if (c->is_shaken) {
        origin_flush(c);
    }
}

static inline void origin_poll(struct origin *o)
{
    origin_accept(o);
    for (unsigned i = 0; i < o->conn_count; i++) {
        origin_poll_conn(o->conns[i]);
    }
}

static inline void origin_close_conn(struct origin_conn *c)
{
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
}

static inline unsigned origin_open_count(const struct origin *o)
{
    unsigned count = 0;
    for (unsigned i = 0; i < o->conn_count; i++) {
        count += o->conns[i]->fd >= 0 && !o->conns[i]->ended;
    }
    return count;
}

static inline void origin_fini(struct origin *o)
{
    for (unsigned i = 0; i < o->conn_count; i++) {
        struct origin_conn *c = o->conns[i];
        for (unsigned k = 0; k < c->stream_count; k++) {
            buf_fini(&c->streams[k].fields);
            buf_fini(&c->streams[k].body);
        }
        nghttp2_session_del(c->session);
        SSL_free(c->ssl);
        buf_fini(&c->out);
        buf_fini(&c->raw);
        origin_close_conn(c);
        free(c);
    }
    SSL_CTX_free(o->tls);
    close(o->listener);
}
