// SPDX-License-Identifier: MIT
// The client side of HTTP/2: a server connection with many exchanges.
#include "http/server_int.h"

size_t h2_server_conn_len(void)
{
    return sizeof(struct http_conn);
}

static void no_fini(struct http_conn *conn)
{
    (void)conn;
}

static const struct http_conn_ops closed_ops = {.fini = no_fini};

void h2_server_conn_begin(struct http_conn *conn, struct str bytes, bool readable)
{
    (void)bytes;
    (void)readable;
    conn->ops = &closed_ops;
    http_conn_close(conn);
}
