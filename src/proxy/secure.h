// SPDX-License-Identifier: MIT
// TLS connections of clients: which certificate, which client certificates, and which hosts a connection
// may ask for. Included in this folder only. Worker thread.
//
//   ClientHello ─► on_hello: name ─► certificates of the name, policy of its host ─► scope, in the ticket too
//   each request ─► secure_judge(): are its host's the ones that the connection was made with? else 421
#pragma once
#include "proxy/transaction.h"

// Of tls_server_config. The loop's owner is the worker's proxy (proxy_new).
extern const struct tls_server_hooks secure_hooks;

// For http_server_ops.
enum http_hello secure_on_hello(struct http_server *server, struct str sni);
void secure_on_handshake(struct http_server *server, struct tls *tls, int err);
void secure_on_abuse(struct http_server *server, const char *what);

// May the transaction's connection ask for its host? False: 421. Sets has_client_auth and
// lacks_certificate; txn->host is set.
bool secure_judge(struct txn *txn);
// The client's certificate for the target: "success", "none", or NULL where the host asks for none. The
// texts live in the arena, and are empty without a certificate.
struct secure_client {
    const char *verify;
    struct str subject;
    struct str fingerprint;
};
void secure_read_client(struct txn *txn, struct secure_client *client);
