// SPDX-License-Identifier: MIT
// Sessions: of clients, in tickets that this node (or another of the fleet) sealed; with targets, a few
// kept per context.
#include "base/hash.h"
#include "loop/rcu.h"
#include "net/tls_int.h"
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    TICKETS_PER_HANDSHAKE =
        1, // a second one costs a tenth of a full handshake; each resumption gives a new one
    SESSION_SEC = 86400,
    SESSIONS_KEPT = 64, // of a client context
};

// ---- tickets ----

static EVP_CIPHER
    *ticket_cipher; // fetched once: doing it for each ticket costs more than the ticket

static void fetch_cipher(void)
{
    ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
}

static const struct tls_ticket_key *find_key(const struct tls_ticket_keys *keys,
                                             const unsigned char *name, unsigned *index)
{
    for (unsigned i = 0; keys != NULL && i < keys->count; i++) {
        if (memcmp(keys->keys[i].name, name, sizeof keys->keys[i].name) == 0) {
            *index = i;
            return &keys->keys[i];
        }
    }
    return NULL;
}

static bool set_mac(EVP_MAC_CTX *mac, const struct tls_ticket_key *key)
{
    char digest[] = "SHA256";
    uint8_t secret[sizeof key->hmac];
    memcpy(secret, key->hmac, sizeof secret);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, secret, sizeof secret),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    bool done = EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(secret, sizeof secret);
    return done;
}

// 1: goes on; 0: no ticket, or one that is not known (a full handshake); 2: good, but the client shall
// have a newer one; -1: broken.
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int is_new)
{
    const struct tls_ticket_keys *keys = rcu_load(tls_of(ssl)->context->tickets->current);
    unsigned index = 0;
    if (keys == NULL || keys->count == 0) {
        return 0;
    }
    if (is_new) {
        const struct tls_ticket_key *key = &keys->keys[0];
        memcpy(name, key->name, sizeof key->name);
        bool done = RAND_bytes(iv, EVP_CIPHER_get_iv_length(ticket_cipher)) == 1 &&
                    EVP_EncryptInit_ex(cipher, ticket_cipher, NULL, key->aes, iv) == 1 &&
                    set_mac(mac, key);
        return done ? 1 : -1;
    }
    const struct tls_ticket_key *key = find_key(keys, name, &index);
    if (key == NULL) {
        return 0;
    }
    if (!set_mac(mac, key) || EVP_DecryptInit_ex(cipher, ticket_cipher, NULL, key->aes, iv) != 1) {
        return -1;
    }
    // Tickets of TLS 1.3 are used once (RFC 8446 C.4): another one for each.
    return index == 0 && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
}

// Is it too late (or too early) for the certificate that the session's client has shown? A ticket would keep it
// good for ever, since each resumption gives a new one.
static bool is_out_of_date(SSL_SESSION *session)
{
    const X509 *peer = session == NULL ? NULL : SSL_SESSION_get0_peer(session);
    return peer != NULL && (X509_cmp_current_time(X509_get0_notAfter(peer)) <= 0 ||
                            X509_cmp_current_time(X509_get0_notBefore(peer)) >= 0);
}

// Behind on_ticket: is what was in the ticket still good?
static SSL_TICKET_RETURN on_opened(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                   size_t name_len, SSL_TICKET_STATUS status, void *argument)
{
    (void)ssl;
    (void)name;
    (void)name_len;
    (void)argument;
    if ((status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) ||
        is_out_of_date(session)) {
        return SSL_TICKET_RETURN_IGNORE_RENEW; // a full handshake
    }
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

int tls_ticket_callbacks(struct tls_context *context)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fetch_cipher);
    SSL_CTX_set_timeout(context->ssl, SESSION_SEC);
    if (context->tickets == NULL || ticket_cipher == NULL) {
        SSL_CTX_set_options(context->ssl, SSL_OP_NO_TICKET);
        return SSL_CTX_set_num_tickets(context->ssl, 0) == 1 ? 0 : ERR_MEMORY;
    }
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context->ssl, on_ticket);
    SSL_CTX_set_session_ticket_cb(context->ssl, NULL, on_opened, NULL);
    return SSL_CTX_set_num_tickets(context->ssl, TICKETS_PER_HANDSHAKE) == 1 ? 0 : ERR_MEMORY;
}

void tls_ticket_begin(struct tls *tls)
{
    const struct tls_ticket_ring *ring = tls->context->tickets;
    const struct tls_ticket_keys *keys = ring == NULL ? NULL : rcu_load(ring->current);
    if (keys == NULL || keys->count == 0) {
        SSL_set_options(tls->ssl, SSL_OP_NO_TICKET);
        SSL_set_num_tickets(tls->ssl, 0);
    }
}

// ---- sessions with targets ----

// The last session by name, in a place that the name's hash says. Contexts are shared by workers: a lock,
// taken at handshakes only.
struct kept_session {
    char *name;
    SSL_SESSION *session;
    uint64_t certificate; // the client's, as tls_client_config.which_certificate numbers it
};

struct tls_sessions {
    pthread_mutex_t mutex;
    struct kept_session kept[SESSIONS_KEPT];
};

static unsigned place_of(const char *name)
{
    return (unsigned)(hash_str(str_from_c(name)) % SESSIONS_KEPT);
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *tls = tls_of(ssl);
    struct tls_sessions *sessions = tls->context->sessions;
    if (tls->name == NULL || sessions == NULL) {
        return 0;
    }
    unsigned place = place_of(tls->name);
    char *name = str_dup(str_from_c(tls->name));
    if (name == NULL) {
        return 0;
    }
    struct kept_session *kept = &sessions->kept[place];
    pthread_mutex_lock(&sessions->mutex);
    struct kept_session old = *kept;
    *kept = (struct kept_session){name, session, tls->certificate};
    pthread_mutex_unlock(&sessions->mutex);
    free(old.name);
    SSL_SESSION_free(old.session);
    return 1; // the reference is ours
}

// With the mutex: what is kept there for the connection, and can be of no other use. NULL: none, or out of
// memory.
static SSL_SESSION *take_session(const struct tls *tls, struct kept_session *kept)
{
    if (kept->name == NULL || !str_eq(str_from_c(kept->name), str_from_c(tls->name))) {
        return NULL;
    }
    SSL_SESSION *session = kept->session;
    bool is_ours = kept->certificate == tls->certificate;
    // Those of TLS 1.3 are used once (RFC 8446 C.4); of others a copy, since connections write to theirs.
    if (is_ours && SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION) {
        return SSL_SESSION_dup(session);
    }
    free(kept->name);
    *kept = (struct kept_session){NULL, NULL, 0};
    if (is_ours) {
        return session;
    }
    SSL_SESSION_free(session); // it would show the certificate that was replaced
    return NULL;
}

void tls_session_offer(struct tls *tls)
{
    const struct tls_client_config *config = &tls->context->client;
    struct tls_sessions *sessions = tls->context->sessions;
    if (tls->name == NULL || sessions == NULL) {
        return;
    }
    // Before the handshake asks for the certificate: what is replaced between the two is kept under the older
    // number, and never resumed.
    tls->certificate =
        config->which_certificate == NULL ? 0 : config->which_certificate(config->owner);
    pthread_mutex_lock(&sessions->mutex);
    SSL_SESSION *session = take_session(tls, &sessions->kept[place_of(tls->name)]);
    pthread_mutex_unlock(&sessions->mutex);
    if (session != NULL) {
        (void)SSL_set_session(tls->ssl, session);
        SSL_SESSION_free(session);
    }
}

int tls_sessions_new(struct tls_context *context)
{
    context->sessions = calloc(1, sizeof *context->sessions);
    if (context->sessions == NULL) {
        return ERR_MEMORY;
    }
    pthread_mutex_init(&context->sessions->mutex, NULL);
    SSL_CTX_set_session_cache_mode(context->ssl,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context->ssl, on_session);
    return 0;
}

void tls_sessions_free(struct tls_sessions **place)
{
    struct tls_sessions *sessions = *place;
    *place = NULL;
    if (sessions == NULL) {
        return;
    }
    for (unsigned i = 0; i < SESSIONS_KEPT; i++) {
        free(sessions->kept[i].name);
        SSL_SESSION_free(sessions->kept[i].session);
    }
    pthread_mutex_destroy(&sessions->mutex);
    free(sessions);
}
